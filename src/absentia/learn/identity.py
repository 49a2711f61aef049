"""Which training it is: a hash of everything that decides its weights, so that only the same one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from absentia.config import RunConfig, config_to
from absentia.data.absence import MaskPlan
from absentia.errors import UserError
from absentia.learn.folder import RunFolder
from absentia.learn.prepare import Survey
from absentia.learn.run import read_config

__all__ = ["FREE", "identity_of"]

FREE = ("cache",)  # settings that change no result, so a run may go on with others


def identity_of(folder: RunFolder, config: RunConfig, plan: MaskPlan | None, seen: Survey, resume: bool) -> str:
    """Hash of what decides the weights; writes config.yaml, which a resumed run must agree with."""
    content = json.loads(json.dumps(config_to(config)))
    if resume and folder.config.exists():
        before, now = _flat(json.loads(json.dumps(config_to(read_config(folder))))), _flat(content)
        keys = sorted((before.keys() | now.keys()) - set(FREE))
        changed = [key for key in keys if before.get(key) != now.get(key)]
        if changed:
            raise UserError(
                f"{folder.path} was started with another {' and '.join(changed)}; resume with the same settings, "
                "or start in another folder"
            )
    folder.write_yaml(folder.config, content)
    decisive = {k: v for k, v in content.items() if k not in ("patterns", "reference", *FREE)}
    decisive["plan"] = plan.sha256 if plan else None
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
    for part in (repr(seen.ids), repr(seen.target), repr(seen.split.tolist())):
        digest.update(part.encode())
    digest.update(seen.presence.tobytes())
    return digest.hexdigest()


def _flat(content: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    out: dict[str, Any] = {}
    for key, value in content.items():
        inner = isinstance(value, Mapping) and value
        out |= _flat(value, f"{where}{key}.") if inner else {where + key: value}
    return out
