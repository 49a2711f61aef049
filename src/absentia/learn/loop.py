"""The training loop: stages, steps, validation, checkpoints. Any method, any rows; one file to read from the top."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from absentia.config import Training
from absentia.data.batch import Batch
from absentia.data.rows import Rows
from absentia.errors import UserError
from absentia.layers.orders import Taken, by_row
from absentia.learn.checkpoint import Position, load_checkpoint, restore_optimizer, save_checkpoint
from absentia.learn.draws import chance, number_of
from absentia.learn.folder import RunFolder
from absentia.learn.interrupt import Interrupt
from absentia.methods.base import Method, Stage

__all__ = ["Listener", "Loop", "Validation"]

USUAL_STEPS = 1500
FEWEST_EPOCHS, MOST_EPOCHS = 10, 200
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Validation:
    """Scores of a stage's patterns by name, and their mean with higher always better."""

    patterns: Mapping[str, float]
    goodness: float


class Listener(Protocol):
    """Who watches a training (a progress bar)."""

    def begin(self, stage: str, steps: int, done: int) -> None:
        """A stage starts or goes on."""

    def step(self, loss: float) -> None:
        """One step was made."""

    def validated(self, result: Validation, best: bool) -> None:
        """A validation was made."""


class _Losses(nn.Module):
    """A method whose forward pass is its losses, so that Accelerate can spread it over devices."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch, stage: Stage, draw: torch.Generator) -> dict[str, Tensor]:
        return self.method.losses(batch, stage, draw)


class Loop:
    """Trains a method on rows.

    validate: scores a method on the stage's patterns.  part: "" for the method itself, "reference" for the one
    beside it; names its files.  run: identity of the run; a checkpoint of another one is refused.
    """

    def __init__(
        self,
        *,
        method: Method,
        rows: Rows,
        settings: Training,
        seed: int,
        folder: RunFolder,
        validate: Callable[[Method, Stage], Validation],
        run: str,
        part: str = "",
        listener: Listener | None = None,
    ) -> None:
        self.method, self.rows, self.settings, self.seed = method, rows, settings, seed
        self.folder, self.validate, self.run, self.part = folder, validate, run, part
        self.listener = listener
        self.accelerator = Accelerator(
            mixed_precision="no",  # a process has one such setting for good; see `_autocast`
            cpu=not torch.cuda.is_available(),
            log_with=settings.tracker,
            project_dir=str(folder.path),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.position = Position()

    def fit(self) -> Position:
        """All stages, from the checkpoint if one is there; leaves the best weights in the method.

        Ctrl-C ends it at the next step with a checkpoint and raises `KeyboardInterrupt`. The global generator
        of random numbers is left as it was.
        """
        saved = self._resumed()
        self._start_tracker()
        with Interrupt() as interrupt, torch.random.fork_rng(devices=[]):
            for number, stage in enumerate(self.method.stages()):
                if number >= self.position.stage:
                    self._fit_stage(stage, saved, interrupt)
                    saved = {}
                    self.position = self.position.next_stage()
        self.accelerator.end_training()
        self.method.to("cpu").eval()
        return self.position

    def _fit_stage(self, stage: Stage, saved: Mapping[str, Mapping[str, Tensor]], interrupt: Interrupt) -> None:
        wanted = np.flatnonzero(stage.wants(self.rows.presence))
        if not len(wanted):
            self.position.notes.append(f"{stage.name}: no training row can show it, so nothing was learned for it")
            return
        steps = self.steps_of(stage)
        learners, order = self._only(stage), self._order_of(stage, wanted)
        optimizer = torch.optim.AdamW(
            _groups(learners, self.settings), lr=self.settings.lr, betas=(0.9, 0.98), fused=True
        )
        model, optimizer = self.accelerator.prepare(_Losses(self.method), optimizer)
        best = dict(saved.get("best", {}))
        if saved:
            restore_optimizer(optimizer, saved["optimizer"])
        if self.listener:
            self.listener.begin(stage.name, steps, self.position.step)
        every = self._validate_every(len(wanted), steps)
        saved_at = time.monotonic()
        while self.position.step < steps:
            started = time.monotonic()
            losses = self._step(model, optimizer, learners, stage, order, steps)
            self.position.step += 1
            self.position.seconds += time.monotonic() - started
            if self.position.step % every == 0 or self.position.step == steps:
                self._log_losses(stage, losses, len(wanted), optimizer)
                best = self._validated(stage, best, len(wanted))
                if self.settings.patience is not None and self.position.waited >= self.settings.patience:
                    break
            if interrupt.asked or time.monotonic() - saved_at > self.settings.checkpoint_seconds:
                self._save(optimizer, best)
                saved_at = time.monotonic()
            interrupt.check()
        self.method.restore(best)
        self._save(optimizer, best, ended=True)
        interrupt.check()

    def _step(
        self,
        model: nn.Module,
        optimizer: Any,
        learners: list[nn.Parameter],
        stage: Stage,
        order: Callable[[int], Taken],
        steps: int,
    ) -> dict[str, float]:
        """One update of the weights; everything drawn in it is a function of (seed, stage, step)."""
        step, parts = self.position.step, self.settings.accumulate
        key = number_of(self.seed, stage.name, step)
        self._seed(key)
        draw = torch.Generator().manual_seed(key)
        if not self.method.training:
            self.method.train()
        _set_rate(optimizer, self.settings, stage.floor, step, steps)
        taken = order(step)
        summed: dict[str, float] = {}
        for number, micro in enumerate(taken.parts(parts)):
            last = number == parts - 1
            with nullcontext() if last else self.accelerator.no_sync(model), self._autocast():
                terms = model(self._batch(micro, key), stage, draw)
                loss = torch.stack(list(terms.values())).sum()
                self.accelerator.backward(loss * (len(micro.rows) / len(taken.rows)))
            for name, term in terms.items():
                summed[name] = summed.get(name, 0.0) + float(term.detach()) * len(micro.rows) / len(taken.rows)
        self.accelerator.clip_grad_norm_(learners, self.settings.clip)
        optimizer.step()
        self.method.zero_grad(set_to_none=True)
        self._check_finite(summed, stage, step)
        if self.listener:
            self.listener.step(sum(summed.values()))
        return summed

    def _seed(self, key: int) -> None:
        """Chance of the device that learns; to look for all kinds of devices costs more than many a layer."""
        if self.accelerator.device.type == "cpu":
            torch.default_generator.manual_seed(key)
        else:
            torch.manual_seed(key)

    def _order_of(self, stage: Stage, wanted: Ints) -> Callable[[int], Taken]:
        """What each step takes of the rows that the stage wants, of several processes this one's share."""
        of_stage = partial(chance, self.seed, stage.name)
        target = None if self.rows.target is None else self.rows.target[wanted]
        own = stage.order and stage.order(self.rows.presence[wanted], target, of_stage)
        order = own or by_row(len(wanted), of_stage)
        size = min(self.settings.batch * self.settings.accumulate, len(wanted))
        world, rank = int(self.accelerator.num_processes), int(self.accelerator.process_index)

        def taken(step: int) -> Taken:
            rows, shown = order(size, step * world + rank)
            return Taken(wanted[rows], shown)

        return taken

    def _batch(self, taken: Taken, key: int) -> Batch:
        """The rows of a step, or of a part of one, with no more than they are to show."""
        batch = self.rows.batch(taken.rows, key)
        if taken.shown is not None:
            batch = batch.restrict(torch.from_numpy(taken.shown), self.rows.schema.names)
        return batch.to(self.accelerator.device)

    def _validated(self, stage: Stage, best: Mapping[str, Tensor], wanted: int) -> dict[str, Tensor]:
        self.method.eval()
        result = self.validate(self.method, stage)
        blind = not math.isfinite(result.goodness)  # nothing to judge by: the last weights are the ones to keep
        better = blind or self.position.best is None or result.goodness > self.position.best
        self.position.waited = 0 if better else self.position.waited + 1
        if better:
            self.position.best = None if blind else result.goodness
        self._log(
            {
                "event": "validate",
                **self._where(stage, wanted),
                "score": None if blind else abs(result.goodness),
                "patterns": dict(result.patterns),
            }
        )
        if self.listener:
            self.listener.validated(result, better)
        return {k: v.detach().cpu().clone() for k, v in self.method.learned().items()} if better else dict(best)

    def _log_losses(self, stage: Stage, losses: Mapping[str, float], wanted: int, optimizer: Any) -> None:
        rate = optimizer.param_groups[0]["lr"]
        total = sum(losses.values())
        self._log(
            {
                "event": "train",
                **self._where(stage, wanted),
                "loss": total,
                "losses": dict(losses),
                "lr": rate,
                "seconds": round(self.position.seconds, 3),
            }
        )

    def _where(self, stage: Stage, wanted: int) -> dict[str, Any]:
        epoch = self.position.step * self.settings.batch * self.settings.accumulate / wanted
        return {"part": self._part_name, "stage": stage.name, "epoch": round(epoch, 3), "step": self.position.step}

    def _log(self, line: Mapping[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        self.position.metrics_lines += 1
        with self.folder.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        numbers = {f"{line['part']}/{k}": v for k, v in line.items() if isinstance(v, float)}
        self.accelerator.log(numbers, step=line["step"])

    def _save(self, optimizer: Any, best: Mapping[str, Tensor], ended: bool = False) -> None:
        if not self.accelerator.is_main_process:
            return
        position = self.position.next_stage() if ended else self.position
        plain = getattr(optimizer, "optimizer", optimizer)
        path = self.folder.checkpoint(self.part)
        save_checkpoint(path, position, model=self.method.learned(), best=best, optimizer=plain, run=self.run)

    def _resumed(self) -> Mapping[str, Mapping[str, Tensor]]:
        path = self.folder.checkpoint(self.part)
        saved: Mapping[str, Mapping[str, Tensor]] = {}
        if path.exists():
            self.position, saved = load_checkpoint(path, run=self.run)
            self.method.restore(saved["model"])
        if self.accelerator.is_main_process and self.folder.metrics.exists():
            self._drop_lines_behind()
        return saved if self.position.step else {}

    def _drop_lines_behind(self) -> None:
        """Of the metrics, forget what this training wrote behind its checkpoint, and a line that was cut short."""
        lines = self.folder.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [(line, json.loads(line)["part"] == self._part_name) for line in lines if line.endswith("\n")]
        kept, mine = [], 0
        for line, own in whole:
            mine += own
            if not own or mine <= self.position.metrics_lines:
                kept.append(line)
        self.folder.write_text(self.folder.metrics, "".join(kept))

    @property
    def _part_name(self) -> str:
        return self.part or "method"

    def _autocast(self) -> torch.autocast:
        """bf16 where it was asked for."""
        wanted = self.settings.precision == "bf16"
        return torch.autocast(self.accelerator.device.type, dtype=torch.bfloat16, enabled=wanted)

    def _only(self, stage: Stage) -> list[nn.Parameter]:
        """The stage's parameters, and gradients for no others."""
        learners = list(stage.learns()) if stage.learns else [p for p in self.method.parameters() if p.requires_grad]
        return [p for p in learners if p.requires_grad]

    def steps_of(self, stage: Stage) -> int:
        """How many steps a stage takes: the same for every stage of equal share, however few its rows are."""
        rows = max(1, int(self.rows.presence.any(axis=1).sum()))
        size = self.settings.batch * self.settings.accumulate
        per_epoch = max(1.0, rows / size)
        epochs = self.settings.epochs
        if epochs is None:
            epochs = min(max(USUAL_STEPS / per_epoch, FEWEST_EPOCHS), MOST_EPOCHS)
        return max(1, math.ceil(epochs * per_epoch * stage.share / int(self.accelerator.num_processes)))

    def _validate_every(self, wanted: int, steps: int) -> int:
        per_epoch = math.ceil(wanted / (self.settings.batch * self.settings.accumulate))
        return max(1, min(steps, max(per_epoch, math.ceil(steps / self.settings.validations))))

    def _start_tracker(self) -> None:
        if self.settings.tracker:
            self.accelerator.init_trackers("absentia")

    def _check_finite(self, losses: Mapping[str, float], stage: Stage, step: int) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise UserError(
                    f"stage {stage.name!r}, step {step}: the loss {name!r} is {value}; "
                    "lower --training.lr, and look at the table with absentia inspect"
                )


def _groups(learners: list[nn.Parameter], settings: Training) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not."""
    matrices = [p for p in learners if p.dim() >= 2]
    vectors = [p for p in learners if p.dim() < 2]
    return [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _set_rate(optimizer: Any, settings: Training, floor: float, step: int, steps: int) -> None:
    """Linear rise, then half a cosine down to the share `floor`; a function of the step alone."""
    rising = max(1, round(settings.warmup * steps))
    falling = math.pi * (step - rising) / max(1, steps - rising)
    share = (step + 1) / rising if step < rising else floor + (1 - floor) * 0.5 * (1 + math.cos(falling))
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * share
