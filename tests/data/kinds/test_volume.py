"""Volumes: what is read from NIfTI, pictures and lists, and what is refused with a reason."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from tests.scans import content, nifti

from absentia.data.kinds import Volume
from absentia.data.kinds.grids import differs, moved, read_grid, spacing_of
from absentia.errors import BadCell, UserError

SCAN = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_volume_by_path_by_bytes_and_as_lists_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(nifti(SCAN))
    (tmp_path / "a.nii").write_bytes(gzip.decompress(nifti(SCAN)))
    cells = ["a.nii.gz", "a.nii", nifti(SCAN), {"bytes": None, "path": "a.nii"}, SCAN.tolist()]
    decoder = Volume().fit(cells, root=tmp_path)
    found = [decoder.decode(cell)["voxels"] for cell in cells]
    assert decoder.space == (4, 5, 6) and found[0].shape == (1, 4, 5, 6) and found[0].dtype == np.float32
    assert all((f == found[0]).all() for f in found)
    assert decoder.collate([decoder.decode(c) for c in cells])["voxels"].shape == (5, 1, 4, 5, 6)


def test_a_single_volume_may_have_axes_of_length_one_behind_it() -> None:
    for axes in ([None], [None, None]):
        voxels = read_grid(nifti(SCAN[(..., *axes)]), None).voxels
        assert voxels.shape == SCAN.shape and (voxels == SCAN).all()


def test_intensities_go_from_0_to_1_between_the_percentiles_of_what_is_not_0() -> None:
    scan = np.zeros((10, 10, 11), dtype=np.float32)
    scan[:, :, 1:] = np.arange(1, 1001).reshape(10, 10, 10)
    voxels = Volume().fit([nifti(scan)]).decode(nifti(scan))["voxels"][0]
    low, high = np.percentile(np.arange(1, 1001), (1, 99))
    assert (voxels[:, :, 0] == 0).all(), "the background stays the lowest"
    np.testing.assert_allclose(voxels[:, :, 1:], np.clip((scan[:, :, 1:] - low) / (high - low), 0, 1), atol=1e-6)
    whole = Volume(clip=(0, 100)).fit([nifti(scan)]).decode(nifti(scan))["voxels"]
    assert whole.min() == 0 and whole.max() == 1 and np.unique(whole).size == 1000


@pytest.mark.parametrize("level", [0, 7])
def test_a_volume_of_one_value_is_no_trouble(level: int) -> None:
    scan = np.full((3, 3, 3), level, dtype=np.uint8)
    assert (Volume().fit([nifti(scan)]).decode(nifti(scan))["voxels"] == 0).all()


def test_planes_are_pictures_grey_deep_or_coloured() -> None:
    deep = (np.arange(64, dtype=np.uint16).reshape(8, 8) + 300) * 16
    plane = Volume().fit([png(deep)])
    assert plane.dims == 2 and np.unique(plane.decode(png(deep))["voxels"]).size > 60, "no bits are cut off"
    coloured = np.zeros((8, 8, 3), dtype=np.uint8)
    coloured[2:4, 2:4] = (10, 200, 30)
    colours = Volume().fit([png(coloured)])
    assert colours.channels == 3 and colours.decode(png(coloured))["voxels"].shape == (3, 8, 8)
    assert colours.decode(png(deep))["voxels"].shape == (3, 8, 8), "a grey one among coloured ones"
    assert plane.decode(png(coloured))["voxels"].shape == (1, 8, 8)


def test_a_size_makes_all_volumes_alike_and_what_was_fitted_comes_back() -> None:
    kind = Volume(size=(4,))
    decoder = kind.fit([nifti(SCAN)])
    again = kind.restore(decoder.state())
    other = nifti(np.ones((9, 3, 5), dtype=np.uint8) * np.arange(5, dtype=np.uint8))
    assert again.state() == decoder.state() and again.blank()["voxels"].shape == (1, 4, 4, 4)
    assert again.collate([again.decode(nifti(SCAN)), again.decode(other)])["voxels"].shape == (2, 1, 4, 4, 4)
    with pytest.raises(UserError, match="differ in size"):
        plain = Volume().fit([nifti(SCAN)])
        plain.collate([plain.decode(nifti(SCAN)), plain.decode(other)])


def with_nan() -> bytes:
    scan = SCAN.astype(np.float32)
    scan[1, 2, 3] = np.nan
    return nifti(scan)


HOSTILE: dict[str, tuple[Any, str]] = {
    "four axes": (nifti(np.zeros((2, 2, 2, 3), np.uint8)), r"has 4 axes \(2 x 2 x 2 x 3\)"),
    "NaN": (with_nan(), "1 voxels that are NaN or infinite"),
    "truncated gz": (nifti(np.random.default_rng(0).integers(0, 9, (9, 9, 9), np.uint8))[:-40], "truncated or damaged"),
    "truncated nii": (gzip.decompress(nifti(SCAN))[:-40], "damaged or truncated volume"),
    "header alone": (gzip.decompress(nifti(SCAN))[:348], "damaged or truncated volume"),
    "no bytes": (b"", "zero bytes"),
    "noise": (b"no volume at all", "not an image that can be read"),
    "ragged lists": ([[1, 2], [3]], "lists of different lengths"),
    "words": ([["a", "b"], ["c", "d"]], "no number"),
    "one axis": ([1.0, 2.0], "has 1 axes"),
    "no voxels": (np.zeros((0, 4)), "has no voxels"),
    "a plane": (png(np.zeros((4, 5), np.uint8)), "has 2 axes, where the others have 3"),
    "a number": (7, "holds int, expected bytes, a path or nested lists"),
    "no file": ("nowhere.nii.gz", "does not exist"),
    "colours of NIfTI": (nifti(np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])), "not numbers"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_volume_is_refused_with_a_reason(case: str) -> None:
    cell, reason = HOSTILE[case]
    decoder = Volume().fit([nifti(SCAN)])
    with pytest.raises(BadCell, match=reason):
        decoder.decode(cell)


def test_names_and_contents_that_do_not_agree(tmp_path: Path) -> None:
    (tmp_path / "picture.nii.gz").write_bytes(png(np.zeros((4, 4), np.uint8)))
    (tmp_path / "empty.nii").touch()
    (tmp_path / "notes.txt").write_text("hello")
    for name, reason in (
        ("picture.nii.gz", "the name of a NIfTI file but not its content"),
        ("empty.nii", r"empty\.nii is empty"),
        ("notes.txt", "neither NIfTI"),
    ):
        with pytest.raises(BadCell, match=reason):
            read_grid(name, tmp_path)


@pytest.mark.parametrize("options", [{"clip": (99, 1)}, {"clip": (1,)}, {"clip": (0, 101)}, {"size": (0,)}])
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"volume (clip|size)"):
        Volume(**options)


def test_grids_agree_in_shape_spacing_and_orientation() -> None:
    plain = np.diag([1.0, 1.0, 2.0, 1.0])
    turned, shifted = np.diag([-1.0, 1.0, 2.0, 1.0]), plain.copy()
    shifted[:3, 3] = 5
    here = ((4, 5, 6), plain)
    assert differs(here, here) is None and differs(here, ((4, 5, 6), shifted)) is None
    assert differs(here, ((4, 5, 7), plain)) == "shape 4 x 5 x 6, not 4 x 5 x 7"
    assert differs(here, ((4, 5, 6), np.eye(4))) == "spacing 1 x 1 x 2 mm, not 1 x 1 x 1 mm"
    assert differs(here, ((4, 5, 6), turned)) == "orientation RAS, not LAS"
    for angle, words in ((0.5, None), (20, "orientation turned by 20 degrees")):
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(a := np.deg2rad(angle)), -np.sin(a)], [np.sin(a), np.cos(a)]]
        assert differs(here, ((4, 5, 6), turn @ plain)) == words
    assert moved(plain, shifted) == pytest.approx(75**0.5)
    assert spacing_of(read_grid(content(SCAN), None).affine) == (1.0, 1.0, 2.0)
