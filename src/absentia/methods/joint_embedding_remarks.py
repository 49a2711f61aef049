"""What joint-embedding prediction has to say in words: what cannot be learned, and what could be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations

from torch import Tensor

from absentia.methods.base import Bools
from absentia.methods.joint_embedding_options import JointEmbeddingOptions

__all__ = ["never_together", "what_explains"]


def never_together(names: Sequence[str], presence: Bools, options: JointEmbeddingOptions) -> list[str]:
    """Which pairs no row has together, of rows with this presence, bool (N, M), and what that means."""
    pairs = combinations(range(len(names)), 2)
    never = [f"{names[s]} and {names[t]}" for s, t in pairs if not (presence[:, s] & presence[:, t]).any()]
    if not never or options.predictor in ("none", "mean"):
        return []
    if options.predictor in ("gaussian", "nearest"):
        how = "they count as unrelated" if options.predictor == "gaussian" else "one is guessed as its mean"
        return [f"No training row has {'; '.join(never)} together: {how}."]
    teachers = [name for name in ("labels", "moments") if getattr(options, name)]
    how = f"{' and '.join(teachers)} alone teach" if teachers else "nothing teaches"
    return [f"No training row has {'; '.join(never)} together: {how} one to be predicted from the other."]


def what_explains(names: Sequence[str], explained: Tensor) -> list[str]:
    """How much of each embedding a linear guess from another one explains, from shares (M, M), NaN where unknown."""
    said = [
        f"{names[t]} from {names[s]} {float(explained[s, t]):.2f}"
        for s, t in permutations(range(len(names)), 2)
        if bool(explained[s, t].isfinite())
    ]
    if not said:
        return []
    return [f"Share of an embedding's variance that a linear guess explains on held-out rows: {', '.join(said)}."]
