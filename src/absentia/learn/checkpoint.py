"""The state of a training between two steps, so that a killed run goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from absentia.errors import UserError
from absentia.learn.folder import load_tensors, save_tensors

__all__ = ["Position", "load_checkpoint", "restore_optimizer", "save_checkpoint"]

Tensors = Mapping[str, Tensor]


@dataclass
class Position:
    """Where a training stands.

    stage, step: what comes next.  best, waited: best validation score of the stage and validations since.
    metrics_lines: how many lines of the metrics file are this training's (what it wrote behind them before it was
        killed is dropped).
    """

    stage: int = 0
    step: int = 0
    best: float | None = None
    waited: int = 0
    metrics_lines: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def next_stage(self) -> Position:
        """The beginning of the stage after this one."""
        return Position(stage=self.stage + 1, metrics_lines=self.metrics_lines, seconds=self.seconds, notes=self.notes)


def save_checkpoint(
    path: Path, position: Position, *, model: Tensors, best: Tensors, optimizer: torch.optim.Optimizer, run: str
) -> None:
    """Weights, best weights of the stage, moments of the optimizer and the position, in one file."""
    tensors = {f"model/{k}": v for k, v in model.items()} | {f"best/{k}": v for k, v in best.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{key}": torch.as_tensor(value) for key, value in state.items()}
    save_tensors(path, tensors, {"position": asdict(position), "run": run})


def load_checkpoint(path: Path, *, run: str) -> tuple[Position, dict[str, dict[str, Tensor]]]:
    """The position and the tensors of `model`, `best` and `optimizer`; refuses another run's checkpoint."""
    tensors, about = load_tensors(path)
    if about.get("run") != run:
        raise UserError(f"{path} belongs to a run with other settings or another table; start again in another folder")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts[part][key] = tensor
    return Position(**about["position"]), parts


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Tensors) -> None:
    """Put the moments back."""
    content: dict[str, Any] = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        number, _, key = name.partition("/")
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": content["param_groups"]})
