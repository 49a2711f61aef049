"""Volumes as a modality like any other, where the target is a class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import scans as made
from tests.damage import write_run
from tests.estimators.movies import QUICK
from tests.scans import nifti

from absentia import (
    MultimodalClassifier,
    MultimodalLabeler,
    MultimodalRegressor,
    Tabular,
    UserError,
    Volume,
)


def scans(count: int = 40, side: int = 7) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    kinds = draw.integers(0, 2, count)
    volumes = [draw.integers(0, 60, (side, side, side + 1)).astype(np.uint8) for _ in kinds]
    for kind, volume in zip(kinds, volumes, strict=True):
        volume[1:4, 1:4, 1:4] += 180 * np.uint8(kind)
    cells: list[bytes | None] = [nifti(volume) for volume in volumes]
    cells[::7] = [None] * len(cells[::7])
    return pd.DataFrame({"scan": cells, "age": draw.normal(size=count), "kind": np.asarray(["no", "yes"])[kinds]})


def test_a_class_is_told_from_volumes_and_facts() -> None:
    table = scans()
    model = MultimodalClassifier({"scan": Volume(), "facts": Tabular(["age"])}, seed=0, **QUICK)
    shares = model.fit(table, target="kind").predict_proba(table)
    assert shares.shape == (40, 2) and np.isfinite(shares).all()


def test_volumes_of_different_sizes_want_a_size() -> None:
    table = pd.concat([scans(), scans(side=9)], ignore_index=True)
    with pytest.raises(UserError, match=r"differ in size.*give them a size"):
        MultimodalClassifier({"scan": Volume()}, seed=0, **QUICK).fit(table, target="kind")
    model = MultimodalClassifier({"scan": Volume(size=(8,))}, seed=0, **QUICK).fit(table, target="kind")
    assert len(model.predict(table)) == 80


@pytest.mark.parametrize("estimator", [MultimodalClassifier, MultimodalLabeler, MultimodalRegressor])
def test_masks_are_for_the_command_line(estimator: type[Any], tmp_path: Path) -> None:
    planes = made.table(made.rows()).to_pandas()
    model = estimator({name: Volume() for name in made.NAMES}, seed=0)
    with pytest.raises(UserError, match="Estimators answer no masks: absentia train TABLE --target mask=mask does"):
        model.fit(planes, target="mask")
    with pytest.raises(UserError, match="holds pictures, volumes or nested lists"):
        model.fit(planes[made.NAMES], [[[0, 1], [1, 0]]] * len(planes))
    with pytest.raises(UserError, match="holds pictures, volumes or nested lists"):
        model.fit(planes.assign(mask=[f"mask{i}.nii.gz" for i in range(len(planes))]), target="mask")
    data = made.prepared()
    run = write_run(made.method_of("dropout", data), data, tmp_path / "run", model=made.TINY)
    with pytest.raises(UserError, match=r"is a mask: answer with absentia predict .* --out FOLDER"):
        estimator.load(run.path)
