"""Every registered method is held to the laws; a new one is found here by itself."""

from __future__ import annotations

import pytest
from tests.laws import Laws

from absentia.methods import METHODS


@pytest.mark.parametrize("name", METHODS)
class TestLaws(Laws):
    """One method after the other."""
