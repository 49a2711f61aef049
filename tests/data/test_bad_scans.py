"""Scans as they come: each mistake in a folder of BraTS is one line that names the subject, and leaves no run."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests import miniatures
from tests.scans import nifti

from absentia.cli import main

SUBJECT = "BraTS20_Training_002"  # a row of the training split
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SMALL = [
    "--model.network_options",
    '{"features": [4, 4, 4, 4, 4, 4]}',
    "--training.epochs",
    "1",
    "--training.batch",
    "2",
]
Voxels = npt.NDArray[Any]


def voxels_of(path: Path) -> Voxels:
    import nibabel

    return np.asanyarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes())).dataobj)


def turned() -> npt.NDArray[np.float64]:
    out = AFFINE.copy()
    cos, sin = np.cos(0.3), np.sin(0.3)
    out[:2, :2] = [[cos, -sin], [sin, cos]]
    return out


def with_nan(voxels: Voxels) -> bytes:
    out = voxels.astype(np.float32)
    out[3, 3, 3] = np.nan
    return nifti(out)


SPOILED: dict[str, tuple[str, Callable[[Voxels], bytes], str]] = {
    "shape": (
        "t2",
        lambda x: nifti(x[:-1]),
        "column 't2': does not lie on the grid of 'flair': shape 11 x 12 x 10, not",
    ),
    "spacing": ("t2", lambda x: nifti(x, np.diag([1.0, 1.0, 3.0, 1.0])), "spacing 1 x 1 x 3 mm, not 1 x 1 x 2 mm"),
    "orientation": ("t2", lambda x: nifti(x, np.diag([-1.0, 1.0, 2.0, 1.0])), "orientation LAS, not RAS"),
    "turned": ("t2", lambda x: nifti(x, turned()), "orientation turned by 17 degrees"),
    "4-D": ("t2", lambda x: nifti(np.stack([x] * 3, axis=-1)), "has 4 axes (12 x 12 x 10 x 3); a plane has 2"),
    "cut file": ("t2", lambda x: nifti(x)[:900], "is a truncated or damaged .gz file"),
    "cut content": ("t2", lambda x: gzip.compress(gzip.decompress(nifti(x))[:600]), "is a damaged or truncated volume"),
    "NaN": ("t2", with_nan, "column 't2': holds 1 voxels that are NaN or infinite"),
    "too large": ("t2", lambda x: nifti(x * 1e300), "which float32 has no room for"),
    "no content": ("t2", lambda x: b"", "is empty"),
    "mask shape": ("seg", lambda x: nifti(x[:-2]), "column 'seg': does not lie on the grid of 'flair': shape 10 x 12"),
    "mask NaN": ("seg", with_nan, "column 'seg': holds 1 voxels that are NaN or infinite"),
    "half labels": ("seg", lambda x: nifti(x * 0.5), "holds 0.5, which is no label"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return miniatures.tumours(tmp_path / "brats", 2020)


def file_of(folder: Path, kind: str, subject: str = SUBJECT) -> Path:
    return folder / subject / f"{subject}_{kind}.nii.gz"


def change(folder: Path, kind: str, spoil: Callable[[Voxels], bytes], subject: str = SUBJECT) -> None:
    path = file_of(folder, kind, subject)
    path.write_bytes(spoil(voxels_of(path)))


def train(folder: Path, *more: str) -> int:
    words = ["train", f"brats2020:{folder}", "--method", "dropout", "--reference", "false"]
    return main([*words, *SMALL, *more, "--out", str(folder.parent / "run")])


def notes(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder.parent / "run" / "report.json").read_text())["notes"]
    return found


@pytest.mark.parametrize("case", SPOILED)
def test_what_cannot_be_read_is_one_line_that_names_the_subject(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, spoil, sentence = SPOILED[case]
    change(folder, kind, spoil)
    assert train(folder) == 2
    said = capsys.readouterr().err
    assert sentence in said and SUBJECT in said and len(said.strip().splitlines()) == 1
    assert not (folder.parent / "run").exists(), "mended, the same command may be given again"
    assert main(["inspect", f"brats2020:{folder}"]) == 0
    seen = " ".join(capsys.readouterr().out.split())
    assert "1 cell cannot be read" in seen and f"(of {SUBJECT})" in seen


def test_rows_of_several_sizes_are_told_before_the_first_step(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("flair", "t1ce", "t1", "t2", "seg"):
        change(folder, kind, lambda x: nifti(x[:9]))
    assert train(folder) == 2
    said = capsys.readouterr().err
    assert f"12 x 12 x 10 (BraTS20_Training_000) and 9 x 12 x 10 ({SUBJECT}): say --masks.crop" in said
    assert not (folder.parent / "run").exists()
    assert train(folder, "--masks.crop", "[8, 8]") == 2
    assert "masks.crop [8, 8]: rows have 3 axes; give one length, or 3" in capsys.readouterr().err
    assert train(folder, "--masks.crop", "[8]", "--patterns", "[t1]") == 0


def test_an_empty_mask_is_a_mask(folder: Path) -> None:
    change(folder, "seg", lambda x: nifti(x * 0))
    assert train(folder, "--patterns", "[t1]") == 0
    assert not any("empty" in note for note in notes(folder))


def test_where_every_mask_is_empty_there_is_nothing_to_learn_or_to_score(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in (8, 9):
        change(folder, "seg", lambda x: nifti(x * 0), f"BraTS20_Training_{i:03}")
    assert train(folder, "--patterns", "[t1]") == 0
    assert [note for note in notes(folder) if note.startswith("Every mask is empty") and "(test rows)" in note]
    for i in range(8):
        change(folder, "seg", lambda x: nifti(x * 0), f"BraTS20_Training_{i:03}")
    (folder.parent / "run").rename(folder.parent / "old")
    capsys.readouterr()
    assert train(folder) == 2
    assert "every training mask is empty" in capsys.readouterr().err


def test_a_contrast_that_shows_nothing_is_noted(folder: Path) -> None:
    change(folder, "t2", lambda x: nifti(x * 0 + 7))
    assert train(folder, "--patterns", "[t1]") == 0
    found = [note for note in notes(folder) if "show nothing" in note]
    assert found == [f"1 cells have the same value everywhere and show nothing: 't2' of {SUBJECT}. (train rows)"]


def test_a_contrast_that_no_subject_has_is_left_out_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.rglob("*_t2.nii.gz"):
        path.unlink()
    assert train(folder, "--patterns", "[t2]") == 2
    assert "pattern 't2': no modality 't2'; known: flair, t1ce, t1" in capsys.readouterr().err
    assert train(folder) == 0
    assert "No row has 't2'; it was left out." in notes(folder)


def test_a_mistake_in_the_settings_leaves_no_run_either(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, sentence in (
        (["--model.network", "Unet"], "model.network 'Unet'"),
        (["--options.ratoi", "0.5"], "ratoi"),
        (["--masks.regions", '{"X": [9]}'], "no training mask has one of its labels"),
    ):
        assert train(folder, *more) == 2
        assert sentence in capsys.readouterr().err and not (folder.parent / "run").exists()
    assert train(folder, "--patterns", "[t1]") == 0
    assert train(folder) == 2 and (folder.parent / "run" / "report.json").exists(), "a run that is there stays"


def test_a_pretraining_that_does_not_begin_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "t1", with_nan)
    words = ["pretrain", f"brats2020:{folder}", "--target", "seg=mask", "--method", "universal", *SMALL]
    assert main([*words, "--out", str(folder.parent / "network")]) == 2
    assert SUBJECT in capsys.readouterr().err and not (folder.parent / "network").exists()
