from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from absentia.data.catalog import cohort
from absentia.errors import UserError


def test_the_same_people_every_time_and_others_by_another_seed() -> None:
    one, again, other = (cohort.subject(3, seed=seed) for seed in (0, 0, 1))
    assert all(np.array_equal(one[0][name], again[0][name]) for name in cohort.CONTRASTS)
    assert np.array_equal(one[1], again[1]) and not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("dims", [2, 3])
def test_a_table_of_planes_or_volumes(dims: int, tmp_path: Path) -> None:
    side = 16
    table = cohort.build(dims=dims, side=side, cache=tmp_path)
    assert len(table) == sum(cohort.SPLITS.values()) and len(set(table["id"])) == len(table)
    row = table[5]
    for name in (*cohort.CONTRASTS, "lesion"):
        assert np.asarray(row[name]).shape == (side,) * dims
    assert set(np.unique(row["lesion"]).tolist()) <= {0, 1, 2, 4}
    counts = {split: table["split"].count(split) for split in cohort.SPLITS}
    assert counts == cohort.SPLITS
    assert [path.suffix for path in tmp_path.iterdir()] == [".parquet"]
    assert cohort.build(dims=dims, side=side, cache=tmp_path)[5] == row


def test_what_a_lesion_looks_like_depends_on_the_contrast() -> None:
    """The rim stands out in t1ce, the swelling in flair, and in t2 it is as bright as fluid; outside all is zero."""
    means: dict[tuple[str, str], list[float]] = {}
    for number in range(30):
        pictures, labels = cohort.subject(number)
        inside = pictures["t1"] > 0
        for name, picture in pictures.items():
            assert not picture[~inside].any() and np.isfinite(picture).all()
            usual = picture[inside & (labels == 0)]
            for kind, label in (("swelling", 2), ("rim", 4)):
                if (labels == label).sum() > 10:
                    away = (picture[labels == label].mean() - usual.mean()) / usual.std()
                    means.setdefault((name, kind), []).append(float(away))
    middle = {key: float(np.median(values)) for key, values in means.items()}
    assert middle["t1ce", "rim"] > 1.5 > middle["t1", "rim"]
    assert middle["flair", "swelling"] > 1.5 > middle["t1", "swelling"]


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="dims 4"):
        cohort.build(dims=4)
    with pytest.raises(UserError, match="side 8"):
        cohort.build(side=8)
