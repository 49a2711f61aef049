"""A scenario, which modalities a row has, as a vector: looked up, put together, or read by a text encoder.

Columns are those of the modalities sorted by name, so that nothing depends on the order of the schema.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from absentia.errors import UserError
from absentia.layers.subsets import all_patterns

__all__ = ["SCENARIOS", "Composed", "Constant", "Looked", "Read", "Scenario", "ScenarioName", "scenario_named", "told"]

ScenarioName = Literal["composed", "table", "text", "constant"]
SCENARIOS: tuple[str, ...] = get_args(ScenarioName)
MOST = 8  # modalities up to which scenarios are enumerated


class Scenario(nn.Module, ABC):
    """Presence bool (B, M), columns in schema order, to codes (B, d)."""

    def __init__(self, *, names: Sequence[str], width: int) -> None:
        super().__init__()
        self.names, self.width = sorted(names), width
        self.order = [list(names).index(name) for name in self.names]

    def forward(self, presence: Tensor) -> Tensor:
        return self._codes(presence[:, self.order])

    @abstractmethod
    def _codes(self, presence: Tensor) -> Tensor: ...


class Composed(Scenario):
    """The sum of a vector for each modality that is there and one for each that is not, through a small network.

    It has a code for scenarios that training never met, and for any number of modalities.
    """

    def __init__(self, *, names: Sequence[str], width: int) -> None:
        super().__init__(names=names, width=width)
        self.there = nn.Parameter(torch.randn(2, len(self.names), width) / len(self.names) ** 0.5)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def _codes(self, presence: Tensor) -> Tensor:
        here = presence.to(self.there.dtype)
        summed = here @ self.there[0] + (1 - here) @ self.there[1]
        return summed + cast(Tensor, self.mix(summed))


class Looked(Scenario):
    """A learned vector for each of the 2^M - 1 scenarios."""

    def __init__(self, *, names: Sequence[str], width: int) -> None:
        super().__init__(names=names, width=width)
        _countable(self.names, "table")
        self.table = nn.Parameter(torch.randn(2 ** len(self.names), width))

    def _codes(self, presence: Tensor) -> Tensor:
        return self.table.index_select(0, _numbers(presence))


class Read(Scenario):
    """A sentence for each scenario, read once by a frozen text encoder; what it said is kept with the weights."""

    def __init__(self, *, names: Sequence[str], width: int) -> None:
        super().__init__(names=names, width=width)
        _countable(self.names, "text")
        self.register_buffer("table", torch.zeros(2 ** len(self.names), width))
        self.table: Tensor

    @property
    def written(self) -> bool:
        """Whether the sentences were read."""
        return bool(self.table.any())

    def sentences(self, words: str, aliases: Sequence[str] | None = None) -> list[str]:
        """One for each scenario, in the order of `patterns`; `words` says {present} and {absent}."""
        said = list(aliases or self.names)
        return [told(words, said, pattern.tolist()) for pattern in self.patterns]

    @property
    def patterns(self) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        """bool (2^M - 1, M), columns sorted by name."""
        return all_patterns(len(self.names))

    def write(self, vectors: Tensor) -> None:
        """Keep what an encoder made of the sentences, (2^M - 1, d), each at length √d."""
        if vectors.shape != (len(self.table) - 1, self.width):
            raise UserError(
                f"the text encoder gives {vectors.shape[1]} numbers; set options.text_width={vectors.shape[1]}"
            )
        scaled = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12) * self.width**0.5
        self.table.index_copy_(
            0, _numbers(torch.from_numpy(self.patterns)).to(self.table.device), scaled.to(self.table)
        )

    def _codes(self, presence: Tensor) -> Tensor:
        return self.table.index_select(0, _numbers(presence))


class Constant(Scenario):
    """The same vector for all: what a hyper-network is worth without knowing the scenario."""

    def __init__(self, *, names: Sequence[str], width: int) -> None:
        super().__init__(names=names, width=width)
        self.vector = nn.Parameter(torch.randn(width))

    def _codes(self, presence: Tensor) -> Tensor:
        return self.vector.expand(len(presence), -1)


def scenario_named(name: ScenarioName, *, names: Sequence[str], width: int) -> Scenario:
    """The scenario embedding called `name`."""
    kinds: dict[str, type[Scenario]] = {"composed": Composed, "table": Looked, "text": Read, "constant": Constant}
    return kinds[name](names=names, width=width)


def told(words: str, names: Sequence[str], present: Sequence[bool]) -> str:
    """A scenario in words.

    >>> told("{present} here; {absent} missing", ["image", "text", "sound"], [True, True, False])
    'image and text here; sound missing'
    """
    here = [name for name, there in zip(names, present, strict=True) if there]
    gone = [name for name, there in zip(names, present, strict=True) if not there]
    return words.format(present=_listed(here), absent=_listed(gone))


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return names[0] if names else "nothing"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _numbers(presence: Tensor) -> Tensor:
    powers = 2 ** torch.arange(presence.shape[1], device=presence.device)
    return (presence.long() * powers).sum(dim=1)


def _countable(names: Sequence[str], kind: str) -> None:
    if len(names) > MOST:
        raise UserError(
            f"options.scenario {kind}: {len(names)} modalities have {2 ** len(names) - 1:,} scenarios; say composed"
        )
