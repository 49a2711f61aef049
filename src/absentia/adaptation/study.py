"""A network adapted in several ways and scored for every pattern, as the paper's tables have it.

Beside each kind of adapter stand the network as it was (absent modalities filled in), its head tuned alone, the whole
network tuned for each pattern, and networks that were trained for one pattern alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from absentia.adaptation.adapting import adapt
from absentia.adaptation.fit import Loss
from absentia.adaptation.kinds import kind_named
from absentia.adaptation.network import Adapted
from absentia.adaptation.presence import parsed_all
from absentia.adaptation.scores import PatternScore, Score, score_patterns
from absentia.adaptation.sensitivity import modality_importance, sensitive_sites
from absentia.adaptation.whole import dedicated, fine_tuned
from absentia.errors import UserError

__all__ = ["ROWS", "WHOLE", "Study", "Subject", "run_study"]

WHOLE = ("fine-tuned", "dedicated")
SPARSE = "scale-shift sparse"
ROWS = ("base", "head-only", "bias", "shift", "norm", "scale", "scale-shift", "low-rank", "compositional", "calibrated")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A trained network and what it takes to adapt and score it; what the factory of `absentia adapt` returns.

    network: trained, with everything present.  modalities, inputs, filler: as `adapt` takes them.
    train, validation, test: loaders of (inputs, target), read many times, so lists or DataLoaders, no generators.
    loss, score: output and target to a mean over rows; a score is better when it is higher.
    options: more for `adapt`, such as what to exclude, or the head of the row head-only.
    fresh: makes an untrained network of the same architecture, for dedicated ones.
    """

    network: nn.Module
    modalities: Mapping[str, str | Sequence[str]] | Sequence[str]
    train: Iterable[Any]
    test: Iterable[Any]
    loss: Loss
    score: Score
    validation: Iterable[Any] | None = None
    metric: str = "score"
    inputs: Mapping[str, str | Sequence[str]] | None = None
    filler: Mapping[str, Any] | str = "zeros"
    example: Any = None
    fresh: Callable[[], nn.Module] | None = None
    features: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared, and the budget of each.

    patterns: scored, and learned.  epochs: of adapters, in each of which a row shows one pattern; whole networks get
    `whole_epochs` on each pattern.  validations: of adapters, spread evenly; None is one after every epoch.
    budget: share of the channels of the row "scale-shift sparse"; None leaves it out.
    """

    rows: Sequence[str] = ROWS
    patterns: str | Sequence[Any] = "all"
    epochs: int = 20
    lr: float = 3e-3
    validations: int | None = None
    whole_epochs: int = 10
    whole_lr: float = 1e-3
    budget: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for row in self.rows:
            if row not in (*ROWS, *WHOLE, SPARSE):
                kind_named(row)
        if self.budget is None and SPARSE in self.rows:
            raise UserError(f"{SPARSE}: say budget, the share of the channels that learn")
        if self.budget is not None and not 0 < self.budget <= 1:
            raise UserError(f"budget {self.budget}: a share of the channels, above 0 and at most 1")


def run_study(
    subject: Subject, study: Study, *, folder: Path | None = None, hear: Callable[[str], Any] | None = None
) -> dict[str, Any]:
    """Adapt and score; returns what report.json holds. folder: where the adapters of each kind are kept."""
    say = hear or (lambda line: None)
    net = _adapted(subject, "scale-shift", _all_but_one(subject), say=say)
    patterns = parsed_all(study.patterns, net.names)
    full = torch.ones(1, len(net.names), dtype=torch.bool)
    features = subject.features or _head(net)
    whole = score_patterns(net, subject.test, subject.score, full, base=True)[0]
    importance = modality_importance(net, subject.test, subject.score)
    suffers = _suffering(subject, net, say)
    net.detach()
    rows = []
    for name in _wanted(subject, study):
        started = time.monotonic()
        made = _row(subject, study, name, patterns, features, folder)
        made["seconds"] = round(time.monotonic() - started, 2)
        rows.append(made)
        say(f"{name}: mean {made['mean']:.4f}, worst {made['worst']:.4f}, {made['seconds']:.0f} s")
    total = sum(p.numel() for p in subject.network.parameters())
    return {
        "metric": subject.metric,
        "modalities": net.names,
        "full": asdict(whole),
        "importance": importance,
        "suffers": suffers,
        "parameters": total,
        "rows": rows,
        "seed": study.seed,
    }


def _all_but_one(subject: Subject) -> list[str]:
    """The patterns that lack a single modality, in the order of the modalities; none where there is but one."""
    names = list(subject.modalities)
    return ["+".join(n for n in names if n != gone) for gone in names] if len(names) > 1 else []


def _suffering(subject: Subject, net: Adapted, say: Callable[[str], Any]) -> dict[str, dict[str, float]]:
    """Per absent modality the share of every site in what its channels would have to change, the largest first.

    By validation rows, else training rows. Empty, and said, where it cannot be known.
    """
    if not len(net.bank.sets):
        return {}
    rows = subject.train if subject.validation is None else subject.validation
    try:
        found = sensitive_sites(net, rows, subject.loss)
    except UserError as error:
        say(f"which sites suffer most is not known: {error}")
        return {}
    return dict(zip(subject.modalities, found.values(), strict=True))


def _wanted(subject: Subject, study: Study) -> list[str]:
    rows = [r for r in study.rows if r != "dedicated" or subject.fresh is not None]
    if study.budget is not None and SPARSE not in rows:
        rows.append(SPARSE)
    return rows


def _row(
    subject: Subject, study: Study, name: str, patterns: Tensor, features: str | None, folder: Path | None
) -> dict[str, Any]:
    """One way of adapting, scored for each pattern."""
    torch.manual_seed(study.seed)
    names = [_names(subject, row) for row in patterns.tolist()]
    kind = {"calibrated": "scale-shift", SPARSE: "scale-shift"}.get(name, name)
    plain = name in ("base", *WHOLE)
    net = _adapted(subject, "scale-shift" if plain else kind, [] if plain else names, seed=study.seed)
    learned, size = 0, 0
    if name in WHOLE:
        for pattern, row in zip(names, patterns, strict=True):
            net.use(pattern, _whole(subject, study, name, net, row))
        learned = sum(p.numel() for p in subject.network.parameters())
        size = 4 * learned
    elif name == "calibrated":
        net.calibrate(subject.train)
    elif not plain:
        budget = study.budget if name == SPARSE else None
        net.fit(
            subject.train,
            loss=subject.loss,
            validation=subject.validation,
            patterns=names,
            epochs=study.epochs,
            lr=study.lr,
            validations=study.validations,
            budget=budget,
            seed=study.seed,
        )
    if not plain:
        learned = max(net.bank.count(number) for number in range(len(net.bank.sets)))
        size = _size(net, folder, name)
    compared = None if name in WHOLE else features
    scores = score_patterns(net, subject.test, subject.score, patterns, base=name == "base", features=compared)
    net.detach()
    return _summary(name, scores) | {"numbers_per_set": learned, "sets": len(net.bank.sets), "bytes": size}


def _whole(subject: Subject, study: Study, name: str, net: Adapted, pattern: Tensor) -> nn.Module:
    settings: dict[str, Any] = {"epochs": study.whole_epochs, "lr": study.whole_lr}
    if name == "fine-tuned":
        return fine_tuned(net, pattern, subject.train, subject.loss, **settings)
    assert subject.fresh is not None
    return dedicated(net, subject.fresh, pattern, subject.train, subject.loss, **settings)


def _summary(name: str, scores: Sequence[PatternScore]) -> dict[str, Any]:
    known = [s for s in scores if s.n]
    cosines = [s.cosine for s in known if s.cosine is not None]
    return {
        "row": name,
        "mean": sum(s.score for s in known) / max(1, len(known)),
        "worst": min((s.score for s in known), default=float("nan")),
        "cosine": sum(cosines) / len(cosines) if cosines else None,
        "patterns": [asdict(s) for s in scores],
    }


def _size(net: Adapted, folder: Path | None, name: str) -> int:
    if folder is None:
        return 2 * sum(net.bank.count(number) for number in range(len(net.bank.sets)))
    return net.save(folder / f"{name.replace(' ', '-')}.safetensors").stat().st_size


def _adapted(subject: Subject, kind: str, patterns: Sequence[Any], *, seed: int = 0, say: Any = None) -> Adapted:
    options = {name: value for name, value in subject.options.items() if name != "head" or kind_named(kind).head}
    return adapt(
        subject.network,
        modalities=subject.modalities,
        kind=kind,
        patterns=patterns,
        inputs=subject.inputs,
        filler=subject.filler,
        example=subject.example if subject.example is not None else next(iter(subject.train))[0],
        seed=seed,
        say=say,
        **options,
    )


def _names(subject: Subject, row: Sequence[bool]) -> str:
    return "+".join(name for name, there in zip(subject.modalities, row, strict=True) if there)


def _head(net: Adapted) -> str | None:
    """The last linear layer that is a site where modalities meet."""
    plain = [site.name for site in net.plan.sites if site.type.family == "linear" and site.owner is None]
    return plain[-1] if plain else None
