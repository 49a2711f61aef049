"""The universal model: one network for every subset, where modalities are absent at training and at test.

"Enhancing universal representations against all-stage missing modalities" (arXiv 2406.01987): a masked autoencoder
learns to reconstruct absent modalities, from incomplete rows too, by approximating distributions; then rows are
completed, and what a completed row's representation knows is distilled into that of the incomplete one; a hyper-network
makes part of the parameters for the scenario at hand. Only the abstract is readable to us. The parts are its; their
formulas are choices of ours, near M3AE (Liu et al., AAAI 2023), and each is an option (`universal_options.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.layers.distillation import agreement, feature_loss, score_loss
from absentia.layers.distribution import unseen_pairs
from absentia.layers.heads import row_losses
from absentia.layers.masking import drop_modalities
from absentia.layers.naming import places_by_name, places_in_order
from absentia.layers.scenarios import Read
from absentia.methods.base import Batches, Bools, Method, Output, Parts, Stage
from absentia.methods.universal_body import Seen
from absentia.methods.universal_dense import Dense
from absentia.methods.universal_options import UniversalOptions
from absentia.methods.universal_tokens import Tokens
from absentia.models.encoders.sentences import sentence_vectors

__all__ = ["Universal"]


class Universal(Method):
    """Reconstruct, then complete and distil, personalised by scenario."""

    name = "universal"
    dense = True
    Options = UniversalOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        if len(parts.names) < 2:
            raise UserError(
                f"universal: {parts.names[0]!r} is the only modality, so there is none to reconstruct it from"
            )
        never = [name for m, name in enumerate(parts.names) if not parts.seen[:, m].any()]
        if never:
            raise UserError(
                f"universal: no training row has {never[0]!r}, so nothing says what it is like; leave it out"
            )
        if not self.options.imagine and not parts.beside:
            raise UserError(
                "options.imagine 0 leaves the first stage out: it needs model.backbone, a dense network that absentia "
                "pretrain --method universal made"
            )
        dense = parts.codec.target.kind == "mask"
        self.body: Tokens | Dense = (Dense if dense else Tokens)(parts=parts, options=self.options)
        twin = self.options.teacher in ("average", "apart") and self.options.distils
        self.teacher = self.body.twin() if twin else None
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))
        self.begun: Tensor
        self.register_buffer("distilled", torch.zeros((), dtype=torch.long))
        self.distilled: Tensor
        self.register_buffer("followed", torch.zeros((), dtype=torch.long))
        self.followed: Tensor

    def stages(self) -> Sequence[Stage]:
        """Reconstruction, which nothing but its loss judges, then the answer."""
        nothing = np.zeros((0, len(self.parts.names)), dtype=np.bool_)
        imagine = Stage(name="imagine", patterns=nothing, learns=self.body.imagining, share=self.options.imagine)
        floor = self.options.floor if self._averages else 0.0
        answer = Stage(name="answer", learns=self._answering, follows=self._following, floor=floor)
        return [*([imagine] if imagine.share else []), answer]

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        moves = self.training and stage.name == "imagine"
        if self.body.imagination.training != moves:
            self.body.imagination.train(moves)  # in stage 2 it answers only
        if stage.name == "imagine":
            return self.body.imagine(batch, draw)
        self._begin()
        if self.training and self.options.distils and self._begins_step():
            self.distilled.add_(1)
            self._follow()
        return self._task_and_distilled(batch, draw)

    def answer(self, batch: Batch) -> Output:
        body = self.answerer
        made = body.filled(batch)
        seen = body.see(batch, made, batch.presence)
        named = {} if made is None else body.named(made, ~batch.presence)
        return Output(
            scores=seen.scores, uncertainty=seen.scores[:, 0], embeddings=dict(seen.alone), reconstructed=named
        )

    def _task_and_distilled(self, batch: Batch, draw: torch.Generator) -> dict[str, Tensor]:
        """The student sees a part of what a row has, its teacher more."""
        assert batch.target is not None
        shares = self.options.distils and self.teacher is None
        laid = self.body.laid(batch) if shares else None  # else each lays out what it sees, and the student sees less
        student = self._part_seen(batch, laid, draw)
        terms = self.body.task(student, batch.target)
        if not self.options.distils:
            return terms
        if self._averages:
            teacher = self._whole_seen(batch)
        else:
            guide = self.body if self.teacher is None else self.teacher
            teacher = self._taught(guide, batch, laid, draw)
            terms |= {f"teacher {name}": loss for name, loss in guide.task(teacher, batch.target).items()}
        return terms | self._distilled(student, teacher, batch.target)

    @torch.no_grad()
    def _whole_seen(self, batch: Batch) -> Seen:
        """What an averaged teacher sees: all that a row has, and in the place of the rest what an answer has there."""
        assert self.teacher is not None
        return self.teacher.see(batch, self.teacher.filled(batch), batch.presence)

    def _taught(self, guide: Tokens | Dense, batch: Batch, laid: Any, draw: torch.Generator) -> Seen:
        """What a teacher that learns the task itself sees: what a row has and what is made of the rest, or a part."""
        if self.options.teacher == "copy":
            return self._part_seen(batch, laid, draw)
        return guide.see(batch, self.body.completed_once(batch), guide.told(batch.presence), laid)

    def _distilled(self, student: Seen, teacher: Seen, target: Tensor) -> dict[str, Tensor]:
        """How far the student is from the teacher, in features and in scores."""
        options, share = self.options, self._share()
        rows = self._nearer(student, teacher, target) if options.selective else None
        if options.teacher == "copy":
            features = agreement(student.features, teacher.features)
        else:
            features = feature_loss(student.features, teacher.features, rows)
        kind = "labels" if self.parts.codec.target.kind == "mask" else str(self.parts.codec.target.kind)
        scores = score_loss(student.scores, teacher.scores, rows, kind=kind, temperature=options.temperature)
        return {"features": share * options.features * features, "scores": share * options.scores * scores}

    @torch.no_grad()
    def _nearer(self, student: Seen, teacher: Seen, target: Tensor) -> Tensor:
        """(B,) from 0 to 1: by what share of the student's loss the teacher is nearer to the truth of a row."""
        lost = partial(row_losses, target=target, codec=self.parts.codec)
        own = lost(student.scores).float()
        return (1 - lost(teacher.scores).float() / own.clamp(min=1e-12)).clamp(min=0)

    def _share(self) -> Tensor:
        """What distillation weighs in this step beside what it will in the end: exp(-5 (1 - t)²), t from 0 to 1."""
        done = (self.distilled / self.options.ramp).clamp(max=1.0) if self.options.ramp else self.distilled.new_ones(())
        return torch.exp(-5 * (1 - done).square())

    def _part_seen(self, batch: Batch, laid: Any, draw: torch.Generator) -> Seen:
        """A random part of what rows have, as an answer would see it."""
        options, order = self.options, places_by_name(self.parts.names)
        kept = drop_modalities(batch.presence[:, order], draw, how=options.drop, rate=options.rate, keep=options.keep)
        part = batch.restrict(kept[:, places_in_order(self.parts.names)], self.parts.names)
        return self.body.see(part, self.body.filled(part), part.presence, laid)

    def begin_session(self, batches: Batches) -> None:
        """Sentences are read once, before the first step."""
        unread = [b.scenario for b in self._bodies() if isinstance(b.scenario, Read) and not b.scenario.written]
        if unread:
            vectors = sentence_vectors(self.options.encoder, unread[0].sentences(self.options.words))
            for scenario in unread:
                scenario.write(vectors)

    def open_session(self, codec: TargetCodec, taught: Sequence[str] | None = None) -> None:
        super().open_session(codec, taught)
        for body in self._bodies():
            body.grow(codec)
        self.followed.zero_()

    def scaffold(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """The imagination, unless answers stand on it, and which of student and teacher does not answer."""
        if self.teacher is None:
            return {"imagination": self.body.unread()}
        one, other = list(self.body.answering()), list(self.teacher.parameters())
        both = {id(p) for p in one} & {id(p) for p in other}
        name, spare = ("student", one) if self._averages else ("teacher", other)
        return {"imagination": self.body.unread(), name: [p for p in spare if id(p) not in both]}

    def passes(self, presence: Tensor) -> tuple[Tensor, Tensor]:
        """What lacks something is reconstructed first, from a [CLS] each; it answers with that [CLS] and a summary."""
        absent = (~presence).sum(dim=1)
        if self.options.fill == "template":
            return torch.ones_like(absent), absent
        return 1 + (absent > 0).long(), 3 * absent

    def remarks(self, presence: Bools) -> list[str]:
        """Which pairs could not be learned from, because no row has both."""
        apart = unseen_pairs(presence, self.parts.names)
        if not apart:
            return []
        named = ", ".join(f"{one} and {other}" for one, other in apart[:5])
        return [
            f"No training row has both of {named}{' and others' if len(apart) > 5 else ''}: how they go together "
            "cannot be learned, only how each is spread."
        ]

    @torch.no_grad()
    def imagined(self, batch: Batch) -> dict[str, Tensor]:
        """What stage 1 says of what rows lack, also where answers stand on the template."""
        return self.body.named(self.body.complete(batch), ~batch.presence)

    @torch.no_grad()
    def reconstructions(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Of complete rows: per modality what it is and what is imagined of it without it, (n, D) each."""
        names = self.parts.names
        full = batch.select(batch.presence.all(dim=1), names)
        return self.body.pairs(full) if len(full) else {}

    def _begin(self) -> None:
        """The first step of stage 2 starts from what stage 1 learned; a later session goes on with its own weights."""
        if self.training and not bool(self.begun):
            for body in self._bodies():
                body.take_up()
            self.begun.fill_(True)

    def _begins_step(self) -> bool:
        """Whether no part of this step has left its gradients yet, for a step may be several batches."""
        return all(p.grad is None for p in self.body.answering())

    def _answering(self) -> Iterator[nn.Parameter]:
        learning = [self.body] if self._averages else self._bodies()
        return chain.from_iterable(body.answering() for body in learning)

    @property
    def answerer(self) -> Tokens | Dense:
        """The network that answers: the student, or the mean of what it was."""
        return self.teacher if self.teacher is not None and self._averages else self.body

    @property
    def _averages(self) -> bool:
        """Whether the teacher is the mean of what its student was, and answers."""
        return self.teacher is not None and self.options.teacher == "average"

    def _following(self) -> Iterator[nn.Parameter]:
        return self.answerer.answering() if self._averages else iter(())

    def _follow(self) -> None:
        """An averaged teacher takes in its student: at first the mean of a session's steps, then a running one."""
        if self._averages:
            steps = int(self.followed)
            self.answerer.follow(self.body, min(self.options.momentum, steps / (steps + 1)))
            self.followed.add_(1)

    def _bodies(self) -> list[Tokens | Dense]:
        """The network that answers, and its teacher if that is another one."""
        return [self.body] if self.teacher is None else [self.body, self.teacher]
