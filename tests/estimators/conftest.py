from __future__ import annotations

import pytest
from tests.estimators.movies import MODALITIES, QUICK, movies

from absentia import MultimodalClassifier


@pytest.fixture(scope="session")
def fitted() -> MultimodalClassifier:
    """Trained once for all tests; they may ask it, not change it."""
    model = MultimodalClassifier(MODALITIES, **QUICK | {"epochs": 12})
    return model.fit(movies(), target="genre", validation=movies(60, seed=1))
