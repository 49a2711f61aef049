"""The laws once more, for separate branches under a learned gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from tests.laws import Laws

from absentia.methods.single_branch import SingleBranch
from absentia.methods.single_branch_options import Fuse, SingleBranchOptions


@dataclass(frozen=True, kw_only=True)
class Gated(SingleBranchOptions):
    """FOP with what else the single branch has by default."""

    branches: Literal["one", "each"] = "each"
    fuse: Fuse = "gated"
    together: float = 1.0


@pytest.mark.parametrize("name", ["single-branch"])
class TestGatedLaws(Laws):
    """All of them."""

    @pytest.fixture(autouse=True)
    def gated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SingleBranch, "Options", Gated)
