from __future__ import annotations

from collections.abc import Iterator

import pytest

from absentia.adaptation.site_types import SITE_TYPES


@pytest.fixture
def clean_table() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = dict(SITE_TYPES)
    yield
    SITE_TYPES.clear()
    SITE_TYPES.update(before)
