"""A small table of scans with holes: three contrasts on one grid and a mask, as planes or as volumes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from PIL import Image as Pillow
from tests import tiny

from absentia.config import Model, RunConfig, Training
from absentia.data.absence import MaskPlan
from absentia.data.kinds import Volume
from absentia.data.rows import OnBad
from absentia.data.schema import Schema, Target
from absentia.data.segmentation import Masks
from absentia.data.table import open_table
from absentia.evaluate.patterns import validate
from absentia.layers.subsets import all_patterns
from absentia.learn.build import build_method, patterns_seen
from absentia.learn.folder import RunFolder
from absentia.learn.loop import Listener, Loop
from absentia.learn.prepare import Prepared, prepare
from absentia.methods import Method

NAMES = ["t1", "t2", "flair"]
SIDE = 12
TINY = Model(network_options={"features": [4, 4, 4, 4, 4, 4]})
QUICK = Training(epochs=1.5, batch=4, validations=2, checkpoint_seconds=0.0, lr=1e-2)
BRAIN = {"WT": [1, 4], "ET": [4]}
METHODS = ("ignore", "dropout", "dedicated")
Rows = list[dict[str, Any]]


def rows(count: int = 18, dims: int = 2, seed: int = 0, side: int = SIDE) -> Rows:
    """Two rows a patient. The tumour (1, its core 4) shows in each contrast in its own way; every 6th mask is empty.

    Row 0 is complete; rows 4, 5 and 9 have nothing.
    """
    rng = np.random.default_rng(seed)
    made = [_row(i, dims, rng, side) for i in range(count)]
    for i, row in enumerate(made):
        gone = NAMES if i in (4, 5, 9) else [n for n in NAMES if rng.random() < 0.3 and i and n != NAMES[i % 3]]
        row |= dict.fromkeys(gone)
    return made


def _row(i: int, dims: int, rng: np.random.Generator, side: int) -> dict[str, Any]:
    mask = np.zeros((side,) * dims, dtype=np.uint8)
    if i % 6 != 3:
        first = rng.integers(1, side - 7, size=dims)
        mask[tuple(slice(a, a + 6) for a in first)] = 1
        mask[tuple(slice(a + 2, a + 4) for a in first)] = 4
    shades = {"t1": {1: 60, 4: 140}, "t2": {1: 120, 4: 90}, "flair": {1: 150, 4: 150}}
    scans = {}
    for name, shade in shades.items():
        head = 40 + rng.integers(0, 30, size=mask.shape)
        head[tuple(slice(0, 1) for _ in range(dims))] = 0
        scans[name] = (head + sum(np.where(mask == label, s, 0) for label, s in shade.items())).astype(np.uint8)
    return {
        "patient": f"p{i // 2}",
        "split": ("train", "train", "val", "test")[(i // 2) % 4],
        **{name: content(scan) for name, scan in scans.items()},
        "mask": content(mask),
    }


def content(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None = None) -> bytes:
    """A plane as PNG, a volume as gzipped NIfTI with voxels of 1 x 1 x 2 mm."""
    buffer = io.BytesIO()
    if voxels.ndim == 2:
        Pillow.fromarray(voxels).save(buffer, "PNG")
        return buffer.getvalue()
    return nifti(voxels, affine)


def nifti(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None = None) -> bytes:
    """A gzipped NIfTI file."""
    import gzip

    import nibabel

    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine
    return gzip.compress(nibabel.Nifti1Image(voxels, affine).to_bytes())


def table(made: Rows) -> pa.Table:
    """Rows as an Arrow table."""
    types = dict.fromkeys([*NAMES, "mask"], pa.binary())
    return pa.table({name: pa.array([row[name] for row in made], type=types.get(name)) for name in made[0]})


def schema(names: Sequence[str] = NAMES, **settings: Any) -> Schema:
    """What its columns mean."""
    target = Target("mask", kind="mask", masks=Masks(**({"regions": BRAIN} | settings)))
    return Schema(modalities={name: Volume() for name in names}, target=target, id="patient", split="split")


def prepared(
    made: Rows | None = None,
    names: Sequence[str] = NAMES,
    *,
    plan: MaskPlan | None = None,
    on_bad: OnBad = "error",
    **settings: Any,
) -> Prepared:
    """Everything before the first step."""
    source = table(rows() if made is None else made)
    return prepare(open_table(source), schema(names, **settings), plan=plan, on_bad=on_bad)


def plan_of(made: Rows, hidden: Mapping[str, Sequence[str]], names: Sequence[str] = NAMES) -> MaskPlan:
    """A mask plan that hides these contrasts of these patients."""
    first = {row["patient"]: row for row in made}
    keep = np.asarray([[name not in hidden.get(p, ()) for name in names] for p in first])
    return MaskPlan(modalities=names, splits=[r["split"] for r in first.values()], ids=list(first), keep=keep)


def method_of(name: str, data: Prepared, *, stir: float = 0.1, model: Model = TINY, **options: Any) -> Method:
    """A method with weights away from how they start."""
    seen = patterns_seen(data.rows["train"].presence)
    method = build_method(name, data.fitted, model, seed=0, seen=seen, options=options)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in method.parameters():
            p += stir * torch.randn(p.shape, generator=draw)
    return method.eval()


def loop_of(
    method: Method,
    data: Prepared,
    folder: Path,
    *,
    settings: Training = QUICK,
    listener: Listener | None = None,
    seed: int = 0,
) -> Loop:
    """A training of a method, as a run does it."""
    patterns = all_patterns(len(data.names))
    folder.mkdir(parents=True, exist_ok=True)
    return Loop(
        method=method,
        rows=data.rows["train"],
        settings=settings,
        seed=seed,
        folder=RunFolder(folder),
        validate=partial(validate, rows=data.rows["val"], patterns=patterns, codec=data.fitted.codec),
        run="scans",
        listener=listener,
    )


def config(method: str = "dropout", **more: Any) -> RunConfig:
    """Settings of a training of a few seconds."""
    given = {
        "table": "scans",
        "modality": dict.fromkeys(NAMES, "volume"),
        "target": "mask=mask",
        "id": "patient",
        "method": method,
        "model": TINY,
        "training": QUICK,
        "masks": Masks(regions=BRAIN),
    }
    return RunConfig(**(given | more))


everything = tiny.everything
