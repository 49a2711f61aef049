"""What a method is: stages that say what learns, losses, an answer for any pattern, and what it has learned.

The loop, the run folder, the report and the laws know nothing more about it. A method is one file in this folder and
one line in its registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from absentia.config import config_from
from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.layers.classifier import Classifier
from absentia.layers.heads import Head, prior_scores, uncertainty_of
from absentia.layers.orders import Chance, Order
from absentia.models.dense import DenseBackbone
from absentia.models.dense_head import DenseHead

__all__ = ["Batches", "Bools", "Method", "NoOptions", "Output", "Parts", "Stage"]

Bools = npt.NDArray[np.bool_]
Batches = Callable[[], Iterator[Batch]]
"""All training rows of a session in order, as often as it is called."""


def _anything(presence: Bools) -> Bools:
    return np.asarray(presence.any(axis=1))


def _nothing() -> Iterator[nn.Parameter]:
    return iter(())


@dataclass(frozen=True)
class Stage:
    """One training of some parameters.

    wants: presence bool (N, M) of the training rows to which of them it learns from, bool (N,).
    patterns: bool (P, M), what it is validated on; None means all patterns.
    learns: the parameters that move; None means all that require gradients.
    follows: those that no optimizer moves and that change with them, as a running mean does.
    share: of the run's steps.
    floor: share of the learning rate that is left in the last step.
    order: in which its rows come, where that is not all of them, shuffled, in one pass after the other: from their
        presence bool (N, M), targets and chance.
    """

    name: str = "main"
    wants: Callable[[Bools], Bools] = _anything
    patterns: Bools | None = None
    learns: Callable[[], Iterator[nn.Parameter]] | None = None
    follows: Callable[[], Iterator[nn.Parameter]] = _nothing
    share: float = 1.0
    floor: float = 0.0
    order: Callable[[Bools, npt.NDArray[Any] | None, Chance], Order] | None = None


@dataclass
class Output:
    """What a method answers for B rows.

    scores: (B, K) logits of the classes or labels, (B, 1) standardised number.
    uncertainty: (B,) from 0 (sure) to 1 (as unsure as without any input).
    embeddings: per modality the representations (n_m, D) of its present rows.
    reconstructed: per modality what stands in for it in rows that lack it, where a method makes such a thing.
    Scores of a mask are (B, K, *space) logits of its regions, and there are no embeddings by modality.
    """

    scores: Tensor
    uncertainty: Tensor
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    reconstructed: dict[str, Tensor] = field(default_factory=dict)


class BackboneMaker(Protocol):
    """Builds a backbone; the same number gives the same weights."""

    def __call__(self, number: int = 0) -> Any:
        """The backbone number `number` of a method (most need one).

        A `FusedBackbone`, or where the target is a mask a `DenseBackbone`.
        """
        ...


@dataclass(frozen=True)
class Parts:
    """What a method is built from.

    names: the modalities in schema order.  codec: the fitted target.  backbone: makes one.
    blanks: per modality the inputs of one placeholder row (1, ...), for methods that feed placeholders.
    seen: presence patterns bool (P, M) that the training rows can be restricted to.
    options: the method's own settings by name.
    beside: what a pretraining learned beside the backbone, by name, for a method that can go on with it.
    """

    names: Sequence[str]
    codec: TargetCodec
    backbone: BackboneMaker
    blanks: Mapping[str, Mapping[str, Tensor]]
    seen: Bools
    dropout: float = 0.1
    options: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, Tensor] = field(default_factory=dict)

    def head(self, backbone: nn.Module, *, votes: bool = True) -> Head | DenseHead:
        """A fresh head for a backbone; `votes` is for one that answers with scores of a row."""
        if isinstance(backbone, DenseBackbone):
            return DenseHead(backbone=backbone, names=self.names, codec=self.codec)
        width = int(backbone.width)  # type: ignore[arg-type]
        return Head(width=width, names=self.names, codec=self.codec, dropout=self.dropout, votes=votes)


@dataclass(frozen=True)
class NoOptions:
    """A method without settings of its own."""


class Method(nn.Module, ABC):
    """A way of making a backbone hold when modalities are absent.

    feeds_placeholders: whether absent inputs are embedded as if they were there, so that absence saves nothing.
    checks: whether it decides something from validation rows once training has ended.
    dense: whether it answers masks too, voxel by voxel.
    Options: its own settings, a dataclass whose every field has a default.
    """

    name: ClassVar[str]
    feeds_placeholders: ClassVar[bool] = False
    checks: ClassVar[bool] = False
    dense: ClassVar[bool] = False
    Options: ClassVar[type[Any]] = NoOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__()
        self.parts = parts
        self.options = config_from(self.Options, parts.options, "options.")
        self.register_buffer("prior", prior_scores(parts.codec))
        self.register_buffer("taught", torch.ones(parts.codec.target.size, dtype=torch.bool), persistent=False)
        self.prior: Tensor
        self.taught: Tensor

    @property
    def remembers(self) -> int:
        """Training rows of earlier sessions that it wants to see again in later ones; 0: old data is gone."""
        return 0

    @property
    def settles(self) -> bool:
        """Whether what a session learned stands still from the next one on, also of classes that come back."""
        return False

    def stages(self) -> Sequence[Stage]:
        """What is trained, one after the other; one stage with everything unless a method says otherwise."""
        return [Stage()]

    @abstractmethod
    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        """Named terms whose sum is minimised. Every row has something present; chance comes from `draw` alone."""

    @abstractmethod
    def answer(self, batch: Batch) -> Output:
        """Scores for rows that are all answerable."""

    def answerable(self, presence: Tensor) -> Tensor:
        """Which rows there is anything to say about: presence bool (B, M) to bool (B,). The others get the prior."""
        return presence.any(dim=1)

    def forward(self, batch: Batch) -> Output:
        """Scores for any rows; where nothing can be said, the prior (of every voxel) and full uncertainty."""
        some = self.answerable(batch.presence)
        if some.all() and len(batch):
            return self._with_uncertainty(self.answer(batch))
        scores = self.prior_of(batch)
        if not some.any():
            return Output(scores=scores, uncertainty=torch.ones(len(batch), device=scores.device))
        answered = self._with_uncertainty(self.answer(batch.select(some, self.parts.names)))
        scores = scores.to(answered.scores.dtype).index_put((some,), answered.scores)
        unsure = answered.uncertainty.new_ones(len(batch)).index_put((some,), answered.uncertainty)
        return Output(scores, unsure, answered.embeddings, answered.reconstructed)

    def prior_of(self, batch: Batch) -> Tensor:
        """The prior's scores of each row, (B, K), or of each of its voxels, (B, K, *space)."""
        scores = self.prior.view(1, -1, *(1 for _ in batch.space))
        return scores.repeat(len(batch), 1, *batch.space)

    def learned(self) -> dict[str, Tensor]:
        """Everything that has to be kept: all but frozen parameters, under whichever names they are known."""
        frozen = {name for name, p in self.named_parameters(remove_duplicate=False) if not p.requires_grad}
        return {name: tensor for name, tensor in self.state_dict().items() if name not in frozen}

    def restore(self, learned: Mapping[str, Tensor]) -> None:
        """Take back what `learned` gave; raises `ValueError` unless exactly that is there."""
        expected = self.learned()
        wrong = sorted(expected.keys() ^ learned.keys())
        wrong += [k for k in sorted(expected.keys() & learned.keys()) if not _alike(expected[k], learned[k])]
        if wrong:
            raise ValueError(f"{len(wrong)} tensors are missing, extra or of another shape or type, first {wrong[0]!r}")
        self.load_state_dict(dict(learned), strict=False)

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        """Another session: new classes arrive behind the known ones, or new data of the same classes.

        taught: the classes that its training rows have; None means the new ones, or all where none is new.
        Every head grows and what was learned stays. A method that keeps more than heads per class, or freezes what
        earlier sessions learned, says so here.
        """
        known, classes = self.parts.codec.target.classes, codec.target.classes
        if classes[: len(known)] != known:
            raise ValueError("the classes of a new session come behind the known ones, in the same order")
        self.parts = replace(self.parts, codec=codec)
        self.prior = prior_scores(codec).to(self.prior)
        taught = (classes[len(known) :] or classes) if taught is None else taught
        flags = [name in set(taught) for name in classes] or [True] * codec.target.size
        self.taught = torch.tensor(flags, device=self.taught.device)
        for module in self.modules():
            if isinstance(module, Head | Classifier):
                module.grow(codec)

    def passes(self, presence: Tensor) -> tuple[Tensor, Tensor] | None:
        """What an answer costs: how often each row's tokens go through a transformer, and how many tokens join them.

        presence bool (B, M) to long (B,) each, prompts and what is kept beside the rows not counted. None: every row
        equally often, and nothing joins them.
        """
        return None

    def scaffold(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """By name, parameters that no answer reads: they are there to train the others, as a teacher is."""
        return {}

    def begin_session(self, batches: Batches) -> None:
        """A session's training is about to begin, or goes on after a kill: compute what its rows have to say before."""

    def close_session(self, batches: Batches) -> None:
        """A session's training has ended: compute what needs all its rows once more (means, Fisher information)."""

    def check(self, batches: Batches) -> list[str]:
        """Training has ended: decide from validation rows what only held-out rows can tell, and say what came out."""
        return []

    def remarks(self, presence: Bools) -> list[str]:
        """What a person should know before the method trains on rows with this presence, bool (N, M)."""
        return []

    def reconstructions(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Of rows that have everything: per modality what it truly says and what stands in for it, (n, D) each."""
        return {}

    def imagined(self, batch: Batch) -> dict[str, Tensor]:
        """Per modality what it makes of it for rows that lack it, though answers may not stand on it; see `Output`."""
        output: Output = self(batch)
        return output.reconstructed

    @property
    def guesses(self) -> bool:
        """Whether answers stand on guesses of what is absent that can be left out; `bounds` answers without them."""
        return False

    def bounds(self, batch: Batch, patterns: Tensor) -> tuple[Tensor, Tensor]:
        """Two ways to answer rows that have everything, were they to show no more than each of `patterns`, bool (P, M).

        Scores (P, B, K) without guesses of what is hidden, and with what it truly is in the place of the guesses.
        Asked only where the method `guesses`.
        """
        raise NotImplementedError(f"{self.name} makes no guesses")

    def usage(self, batch: Batch) -> dict[str, Tensor]:
        """Per pool of components how much those of each session have a say in these rows' answers, (S,)."""
        return {}

    def _with_uncertainty(self, output: Output) -> Output:
        output.uncertainty = uncertainty_of(output.scores, self.parts.codec)
        return output


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype
