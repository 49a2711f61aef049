"""BraTS as a user has it: miniature folders in the layouts of 2018 and 2020, whole or with something missing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.scans import nifti

from absentia.config import RunConfig
from absentia.data.catalog import declaration, open_source
from absentia.data.catalog.brats import CONTRASTS, REGIONS, SPLITS
from absentia.data.table import Table
from absentia.declared import declared_schema
from absentia.errors import UserError
from absentia.learn.prepare import prepare


def rows(table: Table) -> list[dict[str, Any]]:
    return [row for chunk in table.chunks() for row in chunk.to_pylist()]


def subject(folder: Path, name: str, *, content: bytes = b"never opened while building", end: str = ".nii.gz") -> None:
    (folder / name).mkdir(parents=True)
    for kind in (*CONTRASTS, "seg"):
        (folder / name / f"{name}_{kind}{end}").write_bytes(content)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    for i in range(20):
        subject(tmp_path / ("HGG" if i < 14 else "LGG"), f"Brats18_{i:03}_1")
    return tmp_path


def test_the_layout_of_2018_has_grades(old: Path) -> None:
    table = open_source(f"brats2018:{old}")
    found = rows(table)
    assert Counter(row["grade"] for row in found) == {"HGG": 14, "LGG": 6}
    assert found[0]["t1ce"] == "HGG/Brats18_000_1/Brats18_000_1_t1ce.nii.gz" and table.root == old
    assert "199/29/57 of 285 subjects were expected; there are 20" in table.notes
    counts = Counter(row["split"] for row in found)
    assert counts == {"train": 14, "val": 2, "test": 4}, "the published shares of however many there are"
    assert [row["split"] for row in rows(open_source(f"brats2018:{old}"))] == [row["split"] for row in found]


def test_the_layout_of_2020_lies_flat_and_may_be_unpacked(tmp_path: Path) -> None:
    for i in range(4):
        subject(tmp_path, f"BraTS20_Training_{i:03}", end=".nii")
    found = rows(open_source(f"brats2020:{tmp_path}"))
    assert [row["grade"] for row in found] == [None] * 4
    assert found[3]["seg"] == "BraTS20_Training_003/BraTS20_Training_003_seg.nii"


def test_whole_sets_have_the_published_counts(tmp_path: Path) -> None:
    for i in range(369):
        (tmp_path / f"s{i:03}").mkdir()
        (tmp_path / f"s{i:03}" / f"s{i:03}_t1.nii.gz").touch()
    table = open_source(f"brats2020:{tmp_path}")
    assert Counter(row["split"] for row in rows(table)) == SPLITS["brats2020"]
    assert not any("expected" in note for note in table.notes)


def test_lists_of_the_user_are_followed(old: Path) -> None:
    names = [f"Brats18_{i:03}_1" for i in range(20)]
    for split, part in (("train", names[:12]), ("val", names[12:14]), ("test", [*names[14:19], "Brats18_other_1"])):
        (old / f"{split}.txt").write_text("\n".join(part) + "\n")
    table = open_source(f"brats2018:{old}")
    found = {row["subject"]: row["split"] for row in rows(table)}
    assert found[names[12]] == "val" and found[names[18]] == "test" and found[names[19]] == "train"
    assert any("1 listed subjects are not there: Brats18_other_1" in note for note in table.notes)
    assert any("1 subjects are in no list and train: Brats18_019_1" in note for note in table.notes)
    (old / "val.txt").write_text(names[0])
    with pytest.raises(UserError, match="1 subjects are listed twice, first 'Brats18_000_1'"):
        open_source(f"brats2018:{old}")
    (old / "val.txt").unlink()
    with pytest.raises(UserError, match="not all three lists"):
        open_source(f"brats2018:{old}")


def test_files_that_are_missing_are_absent_and_listed(old: Path) -> None:
    (old / "HGG" / "Brats18_002_1" / "Brats18_002_1_t2.nii.gz").unlink()
    (old / "LGG" / "Brats18_015_1" / "Brats18_015_1_seg.nii.gz").unlink()
    table = open_source(f"brats2018:{old}")
    assert "2 files are not there: Brats18_002_1_t2, Brats18_015_1_seg" in table.notes
    found = {row["subject"]: row for row in rows(table)}
    assert found["Brats18_002_1"]["t2"] is None and found["Brats18_015_1"]["seg"] is None


def test_folders_that_hold_no_subject(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no subject; expected folders as NAME/NAME_flair"):
        open_source(f"brats2020:{tmp_path}")
    with pytest.raises(UserError, match="is no folder"):
        open_source(f"brats2020:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="say brats2020:FOLDER"):
        open_source("brats2020")


def test_a_miniature_is_prepared_with_the_regions_of_the_challenge(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for i in range(6):
        subject(tmp_path, f"s{i}", content=nifti(draw.choice([0, 1, 2, 4], (6, 6, 6)).astype(np.uint8)))
    source = f"brats2020:{tmp_path}"
    table = open_source(source)
    schema = declared_schema(RunConfig(table=source), table, lambda line: None)
    data = prepare(table, schema, plan=None, on_bad="error")
    assert declaration(source) is not None and data.names == list(CONTRASTS)
    assert data.fitted.codec.target.masks.regions == REGIONS
    wt, tc, et = data.fitted.codec.prior
    assert wt > tc > et > 0
