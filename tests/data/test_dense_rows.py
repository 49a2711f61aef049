"""Rows with masks: one grid a row, regions, crops that any step can repeat, and bad cells by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests import scans
from tests.scans import BRAIN, NAMES, nifti

from absentia.data.crops import Cut, foreground
from absentia.data.dense_rows import DenseRows
from absentia.data.kinds import Image
from absentia.data.kinds.volume import VolumeDecoder
from absentia.data.schema import Schema, Target, target_from_flag
from absentia.data.segmentation import Masks
from absentia.data.table import open_table
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.learn.prepare import prepare


def dense(data: Any, split: str = "train") -> DenseRows:
    rows = data.rows[split]
    assert isinstance(rows, DenseRows)
    return rows


def all_of(rows: DenseRows, draw: int | None = None) -> Any:
    there = np.flatnonzero(rows.presence.any(axis=1))
    return rows.batch(there, draw)


# ------------------------------------------------------------------------------------------------ masks


def test_regions_overlap_and_their_sizes_are_counted() -> None:
    data = scans.prepared()
    codec, rows = data.fitted.codec, dense(data)
    batch = rows.batch(np.arange(len(rows)))
    assert codec.target.classes == ("WT", "ET") and batch.target.shape == (len(rows), 2, 12, 12)
    sizes = batch.target.flatten(2).sum(dim=2).numpy()
    assert (rows.target == sizes).all() and set(sizes[:, 0].tolist()) == {0.0, 36.0}
    assert set(sizes[:, 1].tolist()) == {0.0, 4.0}
    there = rows.presence.any(axis=1)  # the prior is of the rows that are learned from
    assert codec.prior == pytest.approx((sizes[there].sum(axis=0) / there.sum() / 144).tolist())


def test_without_regions_labels_are_regions_and_a_binary_mask_is_one() -> None:
    labels = [np.asarray([[0, 1], [4, 4]], dtype=np.uint8)]
    codec = TargetCodec.fit(Target("seg", kind="mask"), [(labels[0].tolist(),)])
    assert codec.target.masks.regions == {"1": [1], "4": [4]} and codec.prior == (0.25, 0.5)
    binary = TargetCodec.fit(Target("seg", kind="mask"), [([[0, 255], [0, 0]],)])
    assert binary.target.classes == ("seg",) and binary.target.masks.regions == {"seg": [255]}


def test_several_columns_are_a_region_each() -> None:
    target = target_from_flag("whole,core=mask")
    assert target.columns == ("whole", "core")
    made = [row | {"whole": row["mask"], "core": row["mask"]} for row in scans.rows()]
    schema = scans.schema()
    schema = Schema(modalities=schema.modalities, target=target, id="patient", split="split")
    data = prepare(open_table(scans.table(made).drop_columns(["mask"])), schema, plan=None, on_bad="error")
    batch = all_of(dense(data))
    assert data.fitted.codec.target.classes == ("whole", "core") and batch.target.shape[1] == 2


@pytest.mark.parametrize(
    ("settings", "cells", "message"),
    [
        ({}, [([[0, 0], [0, 0]],)], "every training mask is empty"),
        ({"regions": {"ET": [4]}}, [([[0, 1], [0, 0]],)], r"masks\.regions\.ET: no training mask .* found: \[1\]"),
        ({}, [(np.arange(100).reshape(10, 10).tolist(),)], "99 different labels, as a picture does"),
        ({}, [(b"noise",)], "no mask of a training row can be read"),
        ({"fewest": {"TC": 5}}, [([[0, 1]] * 2,)], "masks.fewest 'TC'"),
    ],
)
def test_masks_that_teach_nothing(settings: dict[str, Any], cells: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TargetCodec.fit(Target("seg", kind="mask", masks=Masks(**settings)), cells)


@pytest.mark.parametrize(
    "settings",
    [
        *({"regions": {"ET": []}}, {"regions": {"ET": [0]}}, {"loss": "dice"}, {"empty": "two"}, {"around": 2}),
        *({"crop": [0]}, {"window": [1.5]}, {"overlap": 1.0}, {"fewest": {"ET": -1}}, {"intensity": True}),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^masks\."):
        Masks(**settings)


def test_a_mask_stands_beside_volumes_alone() -> None:
    with pytest.raises(UserError, match="modality 'photo' is of kind 'image'"):
        Schema(modalities={"photo": Image()}, target=Target("mask", kind="mask"))
    schema = scans.schema(crop=[8], fewest={"ET": 3})
    assert Schema.from_json(schema.to_json()) == schema


# -------------------------------------------------------------------------------------------- bad cells


def broken(dims: int = 3) -> dict[str, tuple[int, dict[str, Any], str]]:
    side = 9
    turned = nifti(np.ones((side,) * dims, np.uint8), np.diag([-1.0, 1, 2, 1]))
    return {
        "shape": (0, {"t2": nifti(np.ones((9, 9, 8), np.uint8))}, "grid of 't1': shape 9 x 9 x 8, not 9 x 9 x 9"),
        "spacing": (0, {"flair": nifti(np.ones((9, 9, 9), np.uint8), np.eye(4))}, "grid of 't1': spacing"),
        "orientation": (0, {"t2": turned}, "grid of 't1': orientation LAS, not RAS"),
        "mask": (0, {"mask": nifti(np.ones((9, 9, 8), np.uint8))}, "grid of 't1': shape"),
        "labels": (0, {"mask": nifti(np.full((9, 9, 9), 0.5, np.float32))}, "holds 0.5, which is no label"),
        "cut": (0, {"t1": nifti(np.random.default_rng(0).integers(0, 9, (9,) * 3, np.uint8))[:-60]}, "truncated"),
    }


@pytest.mark.parametrize("case", broken())
def test_a_bad_cell_names_the_subject_and_what_is_wrong(case: str) -> None:
    row, cells, reason = broken()[case]
    made = scans.rows(dims=3, side=9)
    made[row] |= cells
    with pytest.raises(UserError, match=rf"row 0, column '{next(iter(cells))}': .*{reason}.*\(of p0\)"):
        scans.prepared(made)
    policy = {"t1": "absent", "t2": "absent", "flair": "absent", "mask": "skip"}[next(iter(cells))]
    rows = dense(scans.prepared(made, on_bad="absent"))
    assert [record.became for record in rows.bad] == ["absent" if policy == "absent" else "skip"]
    assert (0 in rows.index) == (policy == "absent")


def test_labels_in_no_region_and_other_origins_are_said() -> None:
    made = scans.rows(dims=3, side=9)
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[2:5, 2:5, 2:5], labels[0, 0], labels[1, 1, 1] = 4, 3, 2
    away = np.diag([1.0, 1, 2, 1])
    away[:3, 3] = 0, 3, 4
    made[0] |= {"mask": nifti(labels), "t2": nifti(np.ones((9, 9, 9), np.uint8), away)}
    notes = scans.prepared(made).notes
    assert "Labels in no region count as background: 2, 3; first 2, in p0. (train rows)" in notes
    assert any("1 cells have another origin than their row, the first 't2' of p0 by 5 mm" in note for note in notes)
    assert not any("origin" in note or "Labels" in note for note in scans.prepared(scans.rows(dims=3, side=9)).notes)


def test_what_is_absent_is_never_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scans.prepared()
    rows = dense(data)
    rows._values.clear()
    opened: list[Any] = []
    real = VolumeDecoder.decode
    monkeypatch.setattr(VolumeDecoder, "decode", lambda self, cell: (opened.append(cell), real(self, cell))[1])
    rows.batch(np.arange(len(rows)))
    assert len(opened) == rows.presence.sum() and None not in opened


# ------------------------------------------------------------------------------------------------ crops


def test_a_step_sees_the_same_crop_whenever_it_is_repeated_and_others_elsewhere() -> None:
    rows = dense(scans.prepared(crop=[8], flips=True, intensity=0.1))
    one, again, other = all_of(rows, 5), all_of(rows, 5), all_of(rows, 6)
    assert one.space == (8, 8) and one.target.shape[2:] == (8, 8)
    assert (one.corner == again.corner).all() and (one.target == again.target).all()
    assert all((one.inputs[n]["voxels"] == again.inputs[n]["voxels"]).all() for n in one.inputs)
    assert (one.corner != other.corner).any()
    turned = rows.batch(np.flatnonzero(rows.presence.any(axis=1))[::-1].copy(), 5)
    assert (turned.corner.flip(0) == one.corner).all(), "a function of the row, not of its place in the batch"


def test_contrasts_and_mask_are_cut_and_mirrored_together() -> None:
    grid = np.arange(144, dtype=np.float32).reshape(1, 12, 12)
    cut = Cut(settings=Masks(crop=[5], flips=True), sides=(5, 5))
    for draw in range(20):
        seen = cut({"a": grid, "b": 2 * grid}, grid[0:1] > 70, foreground({"a": grid}), draw, 3)
        assert (seen.voxels["b"] == 2 * seen.voxels["a"]).all() and (seen.mask == (seen.voxels["a"] > 70)).all()
        first = seen.voxels["a"].min()
        assert first == 12 * seen.corner[0] + seen.corner[1]


def test_the_box_comes_from_what_is_there() -> None:
    near, far = np.zeros((1, 20, 20)), np.zeros((1, 20, 20))
    near[:, 2:6, 3:9], far[:, 15:18, 15:19] = 1, 1
    assert foreground({"near": near}).tolist() == [[2, 3], [6, 9]]
    assert foreground({"near": near, "far": far}).tolist() == [[2, 3], [18, 19]]
    assert foreground({"nothing": np.zeros((1, 4, 4))}).tolist() == [[0, 0], [4, 4]]


def test_crops_lie_in_the_foreground_and_some_hold_the_mask() -> None:
    x = np.zeros((1, 40, 40), dtype=np.float32)
    x[:, 10:30, 10:30] = 1
    mask = np.zeros((1, 40, 40), dtype=bool)
    mask[0, 28, 28] = True
    for share in (0.0, 1.0):
        cut = Cut(settings=Masks(crop=[8], around=share), sides=(8, 8))
        corners = np.asarray([cut({"a": x}, mask, foreground({"a": x}), d, 0).corner for d in range(60)])
        held = ((corners <= 28) & (corners + 8 > 28)).all(axis=1)
        if share:
            assert held.all()
        else:
            assert corners.min() == 10 and corners.max() == 22 and held.mean() < 0.3


def test_a_crop_larger_than_a_row_is_filled_up() -> None:
    rows = dense(scans.prepared(crop=[16, 8]))
    batch = all_of(rows, 1)
    assert batch.space == (16, 8) and not any(batch.inputs[n]["voxels"][:, :, 12:].any() for n in batch.inputs)
    assert not batch.target[:, :, 12:].any() and batch.target.any()


def test_intensity_is_drawn_for_each_contrast_and_leaves_the_background() -> None:
    plain, dimmed = (all_of(dense(scans.prepared(crop=[8], intensity=i)), 4) for i in (0.0, 0.1))
    for name in NAMES:
        before, after = plain.inputs[name]["voxels"], dimmed.inputs[name]["voxels"]
        assert (after[before == 0] == 0).all() and (after - before).abs().max() < 0.21 and (after != before).any()


def test_rows_of_different_sizes_need_a_crop() -> None:
    made = scans.rows()
    for row, larger in zip(made, scans.rows(side=15), strict=True):
        row |= larger if row["patient"] == "p1" else {}
    rows = dense(scans.prepared(made))
    with pytest.raises(UserError, match=r"size, 12 x 12 \(p0\) and 15 x 15 \(p1\): say --masks\.crop"):
        rows.batch(np.arange(len(rows)))
    assert all_of(dense(scans.prepared(made, crop=[10])), 3).space == (10, 10)
    portions = [part.tolist() for part in rows.portions(256)]
    assert [p for part in portions for p in part] == list(range(len(rows))), "all rows, in order"
    assert all(len({rows.batch(np.asarray([p])).space for p in part}) == 1 for part in portions) and len(portions) > 1


def test_rows_without_a_mask_teach_nothing_and_are_counted() -> None:
    made = scans.rows()
    made[0] |= {"mask": None}
    structs = [row | {"mask": {"bytes": row["mask"], "path": None}} for row in made]
    whole = scans.table(made)
    column = pa.array([row["mask"] for row in structs], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    for table in (whole, whole.set_column(whole.column_names.index("mask"), "mask", column)):
        data = prepare(open_table(table), scans.schema(), plan=None, on_bad="error")
        assert 0 not in dense(data).index and "1 rows have no target and were left out." in data.notes


def test_a_mask_without_regions_of_its_own_takes_the_settings() -> None:
    assert scans.prepared().fitted.codec.target.masks.regions == BRAIN
