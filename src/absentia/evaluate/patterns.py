"""Answers and scores for every pattern: the same rows once more for each, with only that pattern's modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from absentia.data.batch import Batch
from absentia.data.dense_rows import DenseRows
from absentia.data.rows import Rows
from absentia.data.schema import pattern_name
from absentia.data.target import TargetCodec
from absentia.errors import UserError, nearest
from absentia.evaluate.metrics import goodness_sign, score
from absentia.evaluate.overlap import FIELDS, overlaps
from absentia.evaluate.windows import dense_scores
from absentia.layers.heads import probabilities
from absentia.layers.subsets import all_patterns
from absentia.learn.loop import Validation
from absentia.methods.base import Method, Stage

__all__ = ["Answers", "answer", "answer_patterns", "chosen_patterns", "validate"]

Bools = npt.NDArray[np.bool_]
MOST = 8  # modalities up to which all patterns are evaluated without being asked
AT_ONCE = 256


@dataclass(frozen=True)
class Answers:
    """What a method answered under one pattern.

    positions: (n,) which rows; probabilities (n, K) (numbers in learned units); uncertainty (n,). Of masks it is no
    probabilities but what their scores are made of, (n, K, 4), see `overlaps`.
    """

    positions: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    uncertainty: npt.NDArray[np.float64]


def chosen_patterns(names: Sequence[str], asked: Sequence[str], presence: Bools) -> Bools:
    """bool (P, M): the asked patterns by name, else all of them, else (many modalities) those that rows have.

    A pattern that is asked for twice, as `image+text` and `text+image`, counts once.
    """
    if asked:
        return np.asarray(list(dict.fromkeys(tuple(_named(names, pattern)) for pattern in asked)), dtype=np.bool_)
    if len(names) <= MOST:
        return all_patterns(len(names))
    seen = np.unique(presence[presence.any(axis=1)], axis=0)
    full = np.ones((1, len(names)), dtype=np.bool_)
    return np.unique(np.concatenate([seen, full]), axis=0)


@torch.inference_mode()
def answer(method: Method, rows: Rows, size: int = AT_ONCE) -> Answers:
    """Answers for all rows as they are."""
    method.eval()
    parts = [_answered(method, batch, rows) for batch in rows.batches(size)]
    return _joined(method, [(np.arange(len(rows)), *_stacked(parts, method))])


@torch.inference_mode()
def answer_patterns(
    method: Method, rows: Rows, patterns: Bools, size: int = AT_ONCE, *, distances: bool = True
) -> list[Answers]:
    """Answers for each pattern, from the rows that have at least it; every row is decoded once.

    distances: whether those between surfaces are measured, where the answers are masks; it takes long.
    """
    method.eval()
    names = method.parts.names
    out: list[list[tuple[npt.NDArray[np.int64], torch.Tensor, torch.Tensor]]] = [[] for _ in patterns]
    for positions in rows.portions(size):
        batch = rows.batch(positions)
        for number, pattern in enumerate(patterns):
            able = (rows.presence[positions] | ~pattern).all(axis=1)
            if able.any():
                shown = batch.select(torch.from_numpy(able), names).restrict(torch.from_numpy(pattern), names)
                out[number].append((positions[able], *_answered(method, shown, rows, distances)))
    return [_joined(method, part) for part in out]


def validate(method: Method, stage: Stage, rows: Rows, patterns: Bools, codec: TargetCodec) -> Validation:
    """The mean over a stage's patterns of the main metric on validation rows; -inf when it is undefined."""
    patterns = patterns if stage.patterns is None else stage.patterns
    assert rows.target is not None
    scores = {}
    for pattern, answers in zip(patterns, answer_patterns(method, rows, patterns, distances=False), strict=True):
        if len(answers.positions):
            ids = [rows.ids[p] for p in answers.positions]
            value = score(answers.probabilities, rows.target[answers.positions], ids, codec, interval=False).score
            if value is not None and np.isfinite(value):
                scores[pattern_name(method.parts.names, pattern.tolist())] = value
    mean = float(np.mean(list(scores.values()))) if scores else -np.inf
    return Validation(patterns=scores, goodness=goodness_sign(codec) * mean if scores else -np.inf)


def _answered(method: Method, batch: Batch, rows: Rows, distances: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(rows, DenseRows):
        return _overlapping(method, batch, rows, distances)
    output = method(batch.to(method.prior.device))
    return probabilities(output.scores, method.parts.codec).cpu(), output.uncertainty.float().cpu()


def _overlapping(method: Method, batch: Batch, rows: DenseRows, distances: bool) -> tuple[torch.Tensor, torch.Tensor]:
    assert batch.target is not None and batch.places is not None
    scores, uncertainty = dense_scores(method, batch)
    codec, dims = method.parts.codec, len(batch.space)
    spacing = [rows.spacing(int(place))[:dims] for place in batch.places]
    kept = overlaps((scores > 0).cpu(), batch.target.cpu(), spacing if distances else None, codec.target.masks.lone)
    return kept, uncertainty.float().cpu()


def _stacked(parts: list[tuple[torch.Tensor, torch.Tensor]], method: Method) -> tuple[torch.Tensor, torch.Tensor]:
    if not parts:
        return torch.from_numpy(_nothing(method)), torch.zeros(0)
    return torch.cat([p for p, _ in parts]), torch.cat([u for _, u in parts])


def _joined(method: Method, parts: list[tuple[npt.NDArray[np.int64], torch.Tensor, torch.Tensor]]) -> Answers:
    if not parts:
        return Answers(np.zeros(0, dtype=np.int64), _nothing(method), np.zeros(0))
    return Answers(
        positions=np.concatenate([p for p, _, _ in parts]),
        probabilities=torch.cat([s for _, s, _ in parts]).double().numpy(),
        uncertainty=torch.cat([u for _, _, u in parts]).double().numpy(),
    )


def _nothing(method: Method) -> npt.NDArray[np.float64]:
    target = method.parts.codec.target
    return np.zeros((0, target.size, len(FIELDS)) if target.kind == "mask" else (0, target.size))


def _named(names: Sequence[str], pattern: str) -> list[bool]:
    wanted = pattern.split("+")
    for name in wanted:
        if name not in names:
            raise UserError(f"pattern {pattern!r}: no modality {name!r}; {nearest(name, names)}")
    return [name in wanted for name in names]
