"""A whole run as typed dataclasses; the command line and YAML files fill them in.

An unknown key or a bad value is an error that names the nearest right one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from absentia.data.segmentation import Masks
from absentia.errors import UserError, nearest

__all__ = ["Model", "RunConfig", "StreamConfig", "Training", "config_from", "config_to"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Model:
    """The fused backbone.

    Args:
        width: size of a token.
        depth: transformer layers.
        heads: attention heads per layer; they must divide the width.
        mlp: hidden units of a layer's network, as a multiple of the width.
        dropout: on both branches of a layer and before the head.
        backbone: folder of a pretrained backbone (`absentia pretrain`) or of a ViLT checkpoint, or the hub name of
            one; its sizes then count, not those above.
        freeze: whether the pretrained backbone stays as it is.
        network: of a mask target, a network of MONAI's (BasicUNet, SegResNet, DynUNet, UNETR or SwinUNETR), or
            FusionUNet, in which contrasts meet late.
        network_options: its own options, such as {"features": [32, 32, 64, 128, 256, 32]}; by default it is small.
    """

    width: int = 96
    depth: int = 3
    heads: int = 4
    mlp: int = 2
    dropout: float = 0.1
    backbone: str | None = None
    freeze: bool = False
    network: str = "BasicUNet"
    network_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "mlp"):
            _at_least(f"model.{name}", getattr(self, name), 1)
        if self.width % self.heads or self.width % 4:
            raise UserError(f"model.width {self.width}: must be a multiple of 4 and of model.heads ({self.heads})")
        _between("model.dropout", self.dropout, 0, 0.9)
        _yes_or_no("model.freeze", self.freeze)
        if self.freeze and self.backbone is None:
            raise UserError("model.freeze keeps a pretrained backbone as it is: say which with model.backbone")
        _finite("model.network_options", self.network_options)


@dataclass(frozen=True, kw_only=True)
class Training:
    """The loop.

    Args:
        epochs: passes over the training rows; none chooses enough for about 1,500 steps, at least 10 and at most 200.
        batch: rows per step.
        lr: highest learning rate of AdamW.
        weight_decay: of matrices; vectors (norms, biases, tokens) have none.
        warmup: share of the steps in which the rate rises; it falls as a cosine afterwards.
        accumulate: batches added up before one step.
        clip: largest norm of the gradient.
        precision: no (float32) or bf16.
        patience: validations without a better score before training stops; none never stops early.
        validations: how often a training is validated, at most once per epoch.
        checkpoint_seconds: time between two checkpoints.
        tracker: tensorboard or wandb, through Accelerate.
    """

    epochs: float | None = None
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    accumulate: int = 1
    clip: float = 1.0
    precision: str = "no"
    patience: int | None = 10
    validations: int = 25
    checkpoint_seconds: float = 60.0
    tracker: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "validations"):
            _at_least(f"training.{name}", getattr(self, name), 1)
        for name in ("lr", "clip"):
            _between(f"training.{name}", getattr(self, name), 1e-12, 1e6)
        _between("training.warmup", self.warmup, 0, 1)
        _between("training.weight_decay", self.weight_decay, 0, 1e3)
        _between("training.checkpoint_seconds", self.checkpoint_seconds, 0, 1e9)
        if self.epochs is not None:
            _between("training.epochs", self.epochs, 1e-6, 1e6)
        if self.patience is not None:
            _at_least("training.patience", self.patience, 1)
        _one_of("training.precision", self.precision, ("no", "bf16"))
        if self.tracker is not None:
            _one_of("training.tracker", self.tracker, ("tensorboard", "wandb"))


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run; its folder keeps it as config.yaml.

    Args:
        table: file, folder or hub name of the table.
        modality: what the columns mean, as NAME to KIND[:ENCODER][@COLUMNS] or to a mapping with options;
            empty infers it.
        target: COLUMN or COLUMN=class|labels|number|log|mask.
        id: column that says which rows are the same entity.
        split: column with train, val, test.
        method: which method to train.
        options: the method's own settings.
        plan: file of a mask plan.
        on_bad: what becomes of cells that cannot be read: error, absent or skip.
        seed: of everything that is drawn.
        reference: whether `ignore` is trained beside the method, with the same budget.
        cache: whether what frozen encoders make of cells is kept on disk, for other runs to find.
        patterns: patterns to evaluate, such as image+text; empty means all (or those seen, above 8 modalities).
        model: the backbone.
        training: the loop.
        masks: regions, crops and scores of a mask target.
    """

    table: str
    modality: dict[str, Any] = field(default_factory=dict)
    target: str | None = None
    id: str | None = None
    split: str | None = None
    method: str = "dropout"
    options: dict[str, Any] = field(default_factory=dict)
    plan: str | None = None
    on_bad: str = "error"
    seed: int = 0
    reference: bool = True
    cache: bool = True
    patterns: list[str] = field(default_factory=list)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    masks: Masks = field(default_factory=Masks)

    def __post_init__(self) -> None:
        _one_of("on_bad", self.on_bad, ("error", "absent", "skip"))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise UserError(f"seed {self.seed!r}: must be a whole number from 0 to 2^63 - 1")
        for name in ("reference", "cache"):
            _yes_or_no(name, getattr(self, name))
        for name in ("modality", "options"):
            _finite(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class StreamConfig(RunConfig):
    """A stream of sessions: a run's settings, and how rows become sessions.

    Without `sessions`, `by` and `classes` a table is one session.

    Args:
        sessions: so many sessions, each with its share of the classes.
        by: column whose values are the sessions.
        classes: the classes of each session, listed.
        order: which classes come first where they are not listed: sorted or shuffled (by the seed).
    """

    method: str = "rebq"
    reference: bool = False
    sessions: int | None = None
    by: str | None = None
    classes: list[Any] = field(default_factory=list)
    order: str = "sorted"

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("order", self.order, ("sorted", "shuffled"))
        if self.sessions is not None:
            _at_least("sessions", self.sessions, 1)
        given = [name for name in ("sessions", "by", "classes") if getattr(self, name)]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} both say what the sessions are; leave one away")
        if any(not isinstance(block, list) for block in self.classes):
            raise UserError(f"classes {self.classes!r}: must be a list of lists, the classes of each session")

    @property
    def one_table(self) -> bool:
        """Whether the table holds the whole stream."""
        return bool(self.sessions or self.by or self.classes)


def config_from(kind: type[T], given: Mapping[str, Any], where: str = "") -> T:
    """A dataclass from a mapping, nested ones too; raises `UserError` for a key or a value that does not fit.

    A whole number passes as a decimal one, and so does a text that reads as one (YAML 1.1 takes 1e-3 for a text).
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{where.rstrip('.') or 'settings'} {given!r}: expected keys and values")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in given:
        if key not in known:
            raise UserError(f"unknown key {where + str(key)!r}; {nearest(str(key), known)}")
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{where + name!r} is missing")
    return kind(**{key: _fitting(value, hints[key], where + str(key)) for key, value in given.items()})


def config_to(config: Any) -> dict[str, Any]:
    """The config as plain JSON values."""
    return asdict(config)


def _fitting(value: Any, hint: Any, where: str) -> Any:
    """The value as its type hint wants it."""
    if is_dataclass(hint):
        return value if isinstance(value, hint) else config_from(hint, value, f"{where}.")  # type: ignore[arg-type]
    options = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
    if float in options and str not in options and isinstance(value, str):
        value = _number(value)
    if any(_is(value, option) for option in options):
        return value
    raise UserError(f"{where} {value!r}: must be {' or '.join(_said(option) for option in options)}")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _is(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return isinstance(value, str)  # which texts there are, the dataclass says with the nearest one
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_is(key, get_args(hint)[0]) for key in value)
    return isinstance(value, hint) and isinstance(value, bool) == (hint is bool)


def _said(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    origin = get_origin(hint)
    return words.get(hint) or {list: "a list", dict: "texts as keys with values"}.get(origin, "a text")


def _at_least(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} {value!r}: must be a whole number, at least {least}")


def _between(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{name} {value!r}: must be a number from {low:g} to {high:g}")


def _yes_or_no(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise UserError(f"{name} {value!r}: must be true or false")


def _finite(name: str, value: Any) -> None:
    """Settings end as JSON, which has neither NaN nor infinity; no setting wants one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} {value}: must be a finite number")
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in inner:
        _finite(f"{name}.{key}", item)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} {value!r}: {nearest(str(value), known)}")
