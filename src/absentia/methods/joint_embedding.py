"""Joint-embedding prediction for encoders that were never trained together (Kim & Kim, ECCV 2024, arXiv 2407.12616).

Every modality has an encoder of its own. Read-only prompts look into the encoder of a present modality and predict the
*embedding* of an absent one, trained with VICReg; answers of all modalities, seen or predicted, are fused late. The
readable part of the paper fixes that much; what it leaves open is an option here (`joint_embedding_options.py`).

The tokens of a row pass its encoders once and never see a prompt, so a present modality's own embedding is the same
whatever is predicted from it. Whether a prediction helps is asked of held-out rows, pattern by pattern, and how
much of a say it gets; where it does not, what is present is fused alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from absentia.data.batch import Batch
from absentia.data.schema import pattern_name
from absentia.layers.classifier import Classifier
from absentia.layers.gaussian_predictor import GaussianPredictor
from absentia.layers.guard import SAYS, Guard
from absentia.layers.heads import row_losses, task_loss
from absentia.layers.in_parts import in_parts
from absentia.layers.naming import module_key
from absentia.layers.nearest_predictor import NearestPredictor
from absentia.layers.predictors import Predicted, Predictor, Scales
from absentia.layers.subsets import random_subsets
from absentia.methods.base import Batches, Bools, Method, Output, Parts, Stage
from absentia.methods.joint_embedding_guesses import Embeddings, Guessed, directed_pairs, of_shown, together
from absentia.methods.joint_embedding_objectives import gathered_pair, moment_distance, pair_loss
from absentia.methods.joint_embedding_options import JointEmbeddingOptions
from absentia.methods.joint_embedding_remarks import never_together, what_explains
from absentia.models.encoders.pretrained import TunedEmbedder
from absentia.models.tuning import still, tune
from absentia.models.unimodal import Encoded, Unimodal

__all__ = ["JointEmbedding"]

KEEP = 0.25  # share of the rows of a step that keep all they have


class JointEmbedding(Method):
    """An encoder and a head for each modality, and for each a predictor of all the others."""

    name = "joint-embedding"
    checks = True
    Options = JointEmbeddingOptions

    def __init__(self, *, parts: Parts) -> None:
        super().__init__(parts=parts)
        encoders, heads = nn.ModuleDict(), nn.ModuleDict()
        for name in sorted(parts.names):  # whatever the order of the schema, the same weights
            backbone = parts.backbone(sorted(parts.names).index(name))
            unimodal = Unimodal(embedder=backbone.embedder(name), transformer=backbone.transformer)
            if isinstance(unimodal.embedder, TunedEmbedder) and not unimodal.embedder.settled:
                tune(unimodal.embedder.encoder, self.options.tune, unimodal.embedder.encoder.source)
            self.width = backbone.width
            encoders[module_key(name)] = unimodal
            heads[module_key(name)] = Classifier(width=self.width, codec=parts.codec, settles=False)
        self.encoders, self.heads = encoders, heads
        self.predictors = nn.ModuleDict()
        if self._learns_to_predict:
            for name in sorted(parts.names):
                self.predictors[module_key(name)] = self._predictor(name)
        self.moments = GaussianPredictor(modalities=len(parts.names), width=self.width)
        self.nearest = self._memory(len(parts.names)) if self.options.predictor == "nearest" else None
        self.scales = Scales(names=sorted(parts.names), width=self.width)
        self.guard = Guard(modalities=len(parts.names))
        self.register_buffer("predicting", torch.tensor(self.options.training == "joint"))
        self.predicting: Tensor

    def stages(self) -> Sequence[Stage]:
        """Encoders with heads, then predictors; or everything at once."""
        if not self._learns_to_predict:
            return [Stage(name="encode")]
        if self.options.training == "joint":
            return [Stage(name="joint")]
        return [
            Stage(name="encode", learns=self._encoding),
            Stage(name="predict", learns=self.predictors.parameters, share=0.5),
        ]

    def losses(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        assert batch.target is not None
        if stage.name == "encode":
            return self._task_losses({name: one.rows for name, one in self._encoded(batch).items()}, batch)
        own, made = self._heard(batch, frozen=stage.name == "predict")
        if stage.name == "predict":
            with still(self.heads):
                return self._prediction_losses(batch, own, made, draw)
        return self._task_losses(own, batch) | self._prediction_losses(batch, own, made, draw)

    def answer(self, batch: Batch) -> Output:
        encoded = self._encoded(batch, listen=self._learns_to_predict and bool(self.predicting))
        own = {name: one.rows for name, one in encoded.items()}
        guesses = self._guesses(batch, encoded, own)
        say = ~batch.presence * self.guard.says(self._sorted(batch.presence))[:, None] if guesses else None
        scores = self._scores(own)
        fused = self._fused(scores, batch.presence, guesses, say)
        fused = self.guard.tempered(fused, self._sorted(batch.presence), self.prior)
        made = {name: guess[~batch.presence[:, m]] for m, name, guess in self._placed(guesses)}
        return Output(scores=fused, uncertainty=fused[:, 0], embeddings=own, reconstructed=made)

    @property
    def guesses(self) -> bool:
        return self.options.predictor != "none" and len(self.parts.names) > 1

    def bounds(self, batch: Batch, patterns: Tensor) -> tuple[Tensor, Tensor]:
        """An embedding does not know what is beside it, so one pass of the encoders has all patterns in it."""
        scores = self._scores({name: one.rows for name, one in self._encoded(batch).items()})
        unaided = []
        for shown in patterns:
            presence = shown.expand(len(batch), -1)
            said = {name: scores[name] for m, name in enumerate(self.parts.names) if shown[m]}
            fused = self._fused(said, presence)
            unaided.append(self.guard.tempered(fused, self._sorted(presence), self.prior, unaided=True))
        whole = self.guard.tempered(self._fused(scores, batch.presence), self._sorted(batch.presence), self.prior)
        return torch.stack(unaided), whole.expand(len(patterns), -1, -1)

    @torch.no_grad()
    def close_session(self, batches: Batches) -> None:
        """Add the rows' embeddings to the moments, from which the closed form and the diagnosis come."""
        was, _ = self.training, self.eval()
        for batch in batches():
            own = {name: one.rows for name, one in self._encoded(batch).items()}
            for learner in self._counting:
                learner.add(*self._stacked(own, batch.presence))
        for learner in self._counting:
            learner.solve()
        self.train(was)

    @torch.no_grad()
    def check(self, batches: Batches) -> list[str]:
        """Held-out rows decide, pattern by pattern, whether guesses help and how sharp answers are; returns remarks."""
        if not any(True for batch in batches() if len(batch)):
            return []
        was, _ = self.training, self.eval()
        notes = self._diagnosis(batches)
        self.predicting.fill_(self.options.predictor != "none")
        off = []
        for pattern in self.guard.patterns.to(self.prior.device):
            shown = pattern[self._unsorted]
            says = self._says(complete=bool(shown.all()))
            (unaided, *scores), targets = self._held_out(batches, shown, (0.0, *says))
            if not len(targets):
                continue
            lost = partial(row_losses, target=targets, codec=self.parts.codec)
            right = partial(_right, targets) if self.parts.codec.target.kind == "class" else None
            sharpen = self.options.calibrate
            self.guard.decide_unaided(pattern, unaided, self.prior, lost, sharpen=sharpen)
            how = {"says": says, "sharpen": sharpen, "right": right}
            say = self.guard.decide(pattern, torch.stack(scores), self.prior, lost, **how)
            off += [pattern_name(self.parts.names, shown.tolist())] if len(says) > 1 and not say else []
        self.train(was)
        if off:
            notes.append(f"Held-out rows say that predicting does not help for {', '.join(off)}: switched off there.")
        return notes

    def remarks(self, presence: Bools) -> list[str]:
        """Which pairs no training row has together."""
        return never_together(self.parts.names, presence, self.options)

    # Encoding and answering

    def _heard(self, batch: Batch, *, frozen: bool) -> tuple[Embeddings, Guessed]:
        """Embeddings of what is there, and guesses from them in standard deviations; `micro` rows at a time.

        frozen: whether encoders stand still.
        """
        own: Embeddings = {}
        made: Guessed = {}
        for name in [n for n in self.parts.names if n in batch.inputs]:
            found = in_parts(partial(self._heard_part, name, frozen), batch.inputs[name], self.options.micro)
            own[name] = found["rows"]
            for target in [n for n in self.parts.names if n != name]:
                made[name, target] = Predicted(found[f"mean {target}"], found[f"log variance {target}"])
        return own, made

    def _heard_part(self, name: str, frozen: bool, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of some rows, under names of their own, so that it can be run again for its gradient."""
        encoder, predictor = self._encoder(name), cast(Predictor, self.predictors[module_key(name)])
        through = self.options.tokens_grad_from_prediction and not frozen
        with still(encoder) if frozen else nullcontext():
            encoded = encoder(listen=len(self.parts.names) > 1, **inputs)
        with nullcontext() if through else still(encoder):
            made = predictor(encoder, encoded if through else encoded.detached())
        out = {"rows": encoded.rows}
        for target, guess in made.items():
            out |= {f"mean {target}": guess.mean, f"log variance {target}": guess.log_variance}
        return out

    def _encoded(self, batch: Batch, *, listen: bool = False) -> dict[str, Encoded]:
        """What the encoders make of the modalities that are there."""
        return {
            name: self._encoder(name)(listen=listen and len(self.parts.names) > 1, **batch.inputs[name])
            for name in self.parts.names
            if name in batch.inputs
        }

    def _scores(self, own: Embeddings) -> Embeddings:
        """(n_m, K) of each modality's own head."""
        return {name: self.heads[module_key(name)](rows) for name, rows in own.items()}

    def _fused(
        self, scores: Embeddings, presence: Tensor, guesses: Embeddings | None = None, say: Tensor | None = None
    ) -> Tensor:
        """(B, K): the mean of the answers of what is present, and of guesses (B, D) by their say, (B, M)."""
        total = self.prior.new_zeros(len(presence), len(self.prior))
        count = presence.sum(dim=1, keepdim=True).to(total.dtype)
        for m, name in enumerate(self.parts.names):
            if name in scores:
                total = total.index_add(0, presence[:, m].nonzero()[:, 0], scores[name].to(total.dtype))
            if guesses and say is not None and name in guesses:
                here = say[:, m, None].to(total.dtype)
                total = total + here * self.heads[module_key(name)](guesses[name])
                count = count + here
        return total / count.clamp(min=1)

    def _alone(self, own: Embeddings, batch: Batch) -> Tensor:
        """The mean over rows of the mean loss of their modalities' own answers."""
        assert batch.target is not None
        total = self.prior.new_zeros(len(batch))
        for m, name in enumerate(self.parts.names):
            if name in own:
                here = batch.presence[:, m]
                said = self._scores({name: own[name]})[name]
                lost = row_losses(said, batch.target[here], self.parts.codec)
                total = total.index_add(0, here.nonzero()[:, 0], lost.to(total.dtype))
        return (total / batch.presence.sum(dim=1)).mean()

    def _task_losses(self, own: Embeddings, batch: Batch) -> dict[str, Tensor]:
        """Of what is there, fused and by itself."""
        assert batch.target is not None
        task = self._task(self._fused(self._scores(own), batch.presence), batch.target)
        return {"task": task, "alone": self.options.alone * self._alone(own, batch)}

    def _task(self, scores: Tensor, target: Tensor) -> Tensor:
        return task_loss(scores, target, self.parts.codec)

    # Predicting

    def _guesses(self, batch: Batch, encoded: dict[str, Encoded], own: Embeddings) -> Embeddings:
        """Per modality a guess for every row, (B, D), worth something where it is absent."""
        if not self.guesses or not bool(self.predicting):
            return {}
        if self._learns_to_predict:
            return together(batch.presence, self._predicted(encoded), self.parts.names)
        made = self._counted(*self._stacked(own, batch.presence))
        return {name: made[:, m] for m, name in enumerate(self.parts.names)}

    def _counted(self, stacked: Tensor, presence: Tensor) -> Tensor:
        """(B, M, D): guesses that nothing was trained for, from embeddings (B, M, D)."""
        if self.nearest is not None:
            mean = self.moments.mean.view(len(self.parts.names), self.width)
            return cast(Tensor, self.nearest(stacked, presence, mean))
        shown = presence if self.options.predictor == "gaussian" else torch.zeros_like(presence)
        return cast(Tensor, self.moments(stacked, shown)[0])

    def _predicted(self, encoded: dict[str, Encoded]) -> Guessed:
        """Of every present source and each other modality, for the rows that have the source."""
        out: Guessed = {}
        for source, one in encoded.items():
            made = cast(Predictor, self.predictors[module_key(source)])(self._encoder(source), one)
            out |= {(source, target): guess for target, guess in made.items()}
        return self._scaled(out)

    def _scaled(self, made: Guessed) -> Guessed:
        """From standard deviations to the scale of embeddings."""
        return {(s, t): Predicted(self.scales(t, one.mean), one.log_variance) for (s, t), one in made.items()}

    def _prediction_losses(
        self, batch: Batch, own: Embeddings, made: Guessed, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """The objective on pairs, and the task's loss through guesses on rows that show a part of what they have."""
        assert batch.target is not None
        self.predicting.fill_(True)
        self.scales.see(own)
        predicted = self._scaled(made)
        options = self.options
        out: dict[str, Tensor] = {}
        names, nothing = self.parts.names, self.prior.new_zeros(0, self.width)
        pairs = [
            gathered_pair(pair, options) for pair in directed_pairs(batch.presence, predicted, own, names, nothing)
        ]
        if terms := [pair_loss(pair, options) for pair in pairs if bool(pair.of_made.any())]:
            out["predict"] = options.predict * torch.stack(terms).mean()
        if options.moments and pairs:
            out["moments"] = options.moments * torch.stack([moment_distance(pair) for pair in pairs]).mean()
        shown = random_subsets(batch.presence, KEEP, draw)
        guesses = together(shown, of_shown(predicted, batch.presence, shown, names), names)
        part = {
            n: rows[shown[batch.presence[:, m], m]] for m, n in enumerate(names) if (rows := own.get(n)) is not None
        }
        scores = self._fused(self._scores(part), shown, guesses, ~shown)
        return out | {"labels": options.labels * self._task(scores, batch.target)}

    # Held-out rows

    def _says(self, *, complete: bool) -> Sequence[float]:
        """What there is to choose from."""
        if complete or not bool(self.predicting):
            return (0.0,)
        return SAYS if self.options.guard else (1.0,)

    def _held_out(self, batches: Batches, shown: Tensor, says: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Scores (S, n, K) for each say of guesses, and targets, of the rows that can show a pattern, bool (M,)."""
        found, targets = [self.prior.new_zeros(len(says), 0, len(self.prior))], []
        for batch in batches():
            able = (batch.presence | ~shown).all(dim=1)
            if not bool(able.any()) or batch.target is None:
                continue
            part = batch.select(able, self.parts.names).restrict(shown, self.parts.names)
            encoded = self._encoded(part, listen=self._learns_to_predict)
            own = {name: one.rows for name, one in encoded.items()}
            scores, guesses = self._scores(own), self._guesses(part, encoded, own)
            found.append(torch.stack([self._fused(scores, part.presence, guesses, ~part.presence * s) for s in says]))
            targets.append(batch.target[able])
        return torch.cat(found, dim=1), torch.cat(targets) if targets else self.prior.new_zeros(0)

    def _diagnosis(self, batches: Batches) -> list[str]:
        """How much of each embedding a linear guess from another one explains, on held-out rows."""
        if len(self.parts.names) < 2:
            return []
        parts = [
            self._stacked({n: one.rows for n, one in self._encoded(batch).items()}, batch.presence)
            for batch in batches()
        ]
        stacked, presence = (torch.cat(some) for some in zip(*parts, strict=True))
        return what_explains(self.parts.names, self.moments.explained(stacked, presence))

    # Small things

    @property
    def _counting(self) -> list[GaussianPredictor | NearestPredictor]:
        """What learns from the embeddings of a session's rows by counting them."""
        return [self.moments] if self.nearest is None else [self.moments, self.nearest]

    def _memory(self, modalities: int) -> NearestPredictor:
        return NearestPredictor(modalities=modalities, width=self.width, neighbours=self.options.neighbours)

    @property
    def _learns_to_predict(self) -> bool:
        return self.options.predictor in ("prompts", "pooled") and len(self.parts.names) > 1

    @property
    def _unsorted(self) -> list[int]:
        """Columns of patterns that are sorted by name, in the order of the schema."""
        order = sorted(self.parts.names)
        return [order.index(name) for name in self.parts.names]

    def _sorted(self, presence: Tensor) -> Tensor:
        return presence[:, [self.parts.names.index(name) for name in sorted(self.parts.names)]]

    def _encoder(self, name: str) -> Unimodal:
        return cast(Unimodal, self.encoders[module_key(name)])

    def _encoding(self) -> Iterator[nn.Parameter]:
        yield from self.encoders.parameters()
        yield from self.heads.parameters()

    def _predictor(self, name: str) -> Predictor:
        return Predictor(
            source=self._encoder(name),
            targets=[other for other in sorted(self.parts.names) if other != name],
            width=self.width,
            prompts=self.options.prompts if self.options.predictor == "prompts" else 0,
            reads=self.options.reads,
        )

    def _placed(self, guesses: Embeddings) -> Iterator[tuple[int, str, Tensor]]:
        return ((m, name, guesses[name]) for m, name in enumerate(self.parts.names) if name in guesses)

    def _stacked(self, own: Embeddings, presence: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, M, D), 0 where absent, and presence."""
        out = self.prior.new_zeros(*presence.shape, self.width)
        for m, name in enumerate(self.parts.names):
            if name in own:
                out[presence[:, m], m] = own[name].to(out.dtype)
        return out, presence


def _right(classes: Tensor, scores: Tensor) -> Tensor:
    """Which of the rows (n, K) are answered with their class, bool (n,)."""
    return scores.argmax(dim=1) == classes
