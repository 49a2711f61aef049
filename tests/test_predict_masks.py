"""Masks in a folder: where they lie, which labels they hold, and what becomes of rows with nothing."""

from __future__ import annotations

import errno
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests import scans
from tests.damage import write_run

from absentia.cli import main
from absentia.config import RunConfig
from absentia.data.catalog import cohort
from absentia.data.schema import Target
from absentia.data.segmentation import Masks
from absentia.errors import UserError
from absentia.evaluate.windows import dense_scores
from absentia.jobs import evaluate_run, train_run
from absentia.learn.run import Run, load_run
from absentia.predict import predict_run
from absentia.predict_masks import label_map


def run_of(folder: Path, dims: int, **settings: Any) -> tuple[Run, scans.Rows]:
    made = scans.rows(dims=dims, side=9)
    data = scans.prepared(made, **settings)
    method = scans.method_of("dropout", data, stir=0.5)
    return load_run(write_run(method, data, folder / "run", model=scans.TINY).path), made


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mask_lies_where_its_row_does(dims: int, tmp_path: Path) -> None:
    run, made = run_of(tmp_path, dims, window=[8])
    for i, row in enumerate(made):
        row["patient"] = f"scan {i}"
    heard: list[str] = []
    done = predict_run(run, scans.table(made), tmp_path / "masks", say=heard.append)
    answers = pd.read_csv(tmp_path / "masks" / "answers.csv")
    assert done.rows == len(answers) == 18 and answers["id"].tolist() == [row["patient"] for row in made]
    assert heard[0] == "row 0, window 1"
    empty = answers["pattern"] == "nothing"
    assert (
        empty.sum() == 3 and answers.loc[empty, "file"].isna().all() and (answers.loc[empty, "uncertainty"] == 1).all()
    )
    for _, line in answers[~empty].iterrows():
        path = tmp_path / "masks" / str(line["file"])
        if dims == 3:
            image = nibabel.load(path)
            assert (image.affine == np.diag([1, 1, 2, 1])).all() and path.name.endswith(".nii.gz")
            labels = np.asarray(image.dataobj)
        else:
            labels = np.asarray(Image.open(path))
        assert labels.shape == (9,) * dims and set(np.unique(labels)) <= {0, 1, 4}
    assert len(list((tmp_path / "masks").iterdir())) == 16


def test_rows_of_one_patient_have_files_of_their_own(tmp_path: Path) -> None:
    run, made = run_of(tmp_path, 2)
    predict_run(run, scans.table(made), tmp_path / "masks", absent=["t1"])
    answers = pd.read_csv(tmp_path / "masks" / "answers.csv")
    assert answers["file"].dropna().is_unique and not answers["pattern"].str.contains("t1").any()


def test_labels_are_those_of_the_regions_that_fit_best() -> None:
    regions = {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}
    target = Target("seg", kind="mask", classes=("WT", "TC", "ET"), masks=Masks(regions=regions))
    said = np.asarray([[0, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]], dtype=bool)
    assert label_map(said, target).tolist() == [0, 2, 1, 4, 0]


def test_masks_do_not_fit_into_a_table(tmp_path: Path) -> None:
    run, made = run_of(tmp_path, 2)
    with pytest.raises(UserError, match="masks go into a folder"):
        predict_run(run, scans.table(made), tmp_path / "answers.csv")


def test_the_commands_from_a_folder_of_scans_to_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = scans.rows(dims=3, side=9)
    for i, row in enumerate(made):
        for name in (*scans.NAMES, "mask"):
            if row[name] is not None:
                (tmp_path / f"{i}_{name}.nii.gz").write_bytes(row[name])
                row[name] = f"{i}_{name}.nii.gz"
    pd.DataFrame(made).to_csv(tmp_path / "scans.csv", index=False)
    table, flags = str(tmp_path / "scans.csv"), ["--id", "patient", "--target", "mask"]
    assert main(["inspect", table, *flags]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "flair" in said and "volume" in said and "target mask (mask)" in said
    small = ["--model.network_options", '{"features": [4, 4, 4, 4, 4, 4]}', "--training.epochs", "0.2"]
    regions = ["--masks.regions", '{"WT": [1, 4], "ET": [4]}', "--masks.crop", "[8]", "--reference", "false"]
    out = str(tmp_path / "run")
    assert main(["train", table, *flags, *small, *regions, "--training.batch", "4", "--out", out]) == 0
    assert "Dice" in capsys.readouterr().out
    plan = str(tmp_path / "plan.parquet")
    assert main(["mask", table, *flags, "--p_absent", "t1=0.5", "--out", plan]) == 0
    assert main(["evaluate", out, table, "--plan", plan, "--patterns", "flair"]) == 0
    assert main(["predict", out, table, "--out", str(tmp_path / "masks")]) == 0
    assert (tmp_path / "masks" / "answers.csv").is_file()


def larger(made: scans.Rows, patient: str) -> scans.Rows:
    """Of one patient other voxels, and the same of another but for a rounding."""
    for i, row in enumerate(made):
        row["patient"] = f"p{i}"
        scale = {patient: 2.0, "p2": 1.02}.get(row["patient"])
        for name in (*scans.NAMES, "mask") if scale else ():
            if row[name] is not None:
                image = nibabel.Nifti1Image.from_bytes(gzip.decompress(row[name]))
                voxels = np.asarray(image.dataobj)
                row[name] = scans.nifti(voxels, np.diag([1.0, scale, 2.0, 1.0]))
    return made


def test_whose_voxels_are_of_another_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, made = run_of(tmp_path, 3)
    assert run.spacings == [[1.0, 1.0, 2.0]]
    assert predict_run(run, scans.table(made), tmp_path / "masks").notes == []
    table = scans.table(larger(made, "p1"))
    [note] = predict_run(run, table, tmp_path / "masks").notes
    assert "1 x 1 x 2 mm: p1 (1 x 2 x 2 mm)." in note
    pq.write_table(table, tmp_path / "scans.parquet")
    assert main(["predict", str(run.folder.path), str(tmp_path / "scans.parquet"), "--out", str(tmp_path / "x")]) == 0
    assert "p1 (1 x 2 x 2 mm)" in " ".join(capsys.readouterr().err.split())
    assert note in evaluate_run(run, table, part="all")["notes"]


def test_a_run_that_kept_no_spacing_says_nothing_of_it(tmp_path: Path) -> None:
    made = scans.rows(dims=3, side=9)
    data = scans.prepared(made)
    method = scans.method_of("dropout", data, stir=0.5)
    run = load_run(write_run(method, data, tmp_path / "run", model=scans.TINY, spacings=False).path)
    assert run.spacings == []
    assert predict_run(run, scans.table(larger(made, "p1")), tmp_path / "masks").notes == []


def test_a_disk_that_is_full_leaves_whole_masks_and_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, made = run_of(tmp_path, 3)
    room = iter([None, None])

    def full(number: int) -> None:
        if next(room, "none") == "none":
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "answers.csv").write_text("of another time")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"masks/p1\.nii\.gz cannot be written: No space left on device"):
        predict_run(run, scans.table(made), tmp_path / "masks")
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["p0.nii.gz", "p0_1.nii.gz"]
    assert all(nibabel.load(p).shape == (9, 9, 9) for p in (tmp_path / "masks").iterdir())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    run, made = run_of(tmp_path, 2)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="the folder cannot be made: Not a directory"):
        predict_run(run, scans.table(made), tmp_path / "file" / "masks")


def test_stopped_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run, made = run_of(tmp_path, 3)
    pq.write_table(scans.table(made), tmp_path / "scans.parquet")
    asked = iter([False, True])

    def stopped(*given: Any, **more: Any) -> Any:
        if next(asked):
            raise KeyboardInterrupt
        return dense_scores(*given, **more)

    monkeypatch.setattr("absentia.predict_masks.dense_scores", stopped)
    words = ["predict", str(run.folder.path), str(tmp_path / "scans.parquet"), "--out", str(tmp_path / "masks")]
    assert main(words) == 130
    assert "absentia: stopped. The same command begins again." in capsys.readouterr().err
    left = list((tmp_path / "masks").iterdir())
    assert left and all(nibabel.load(p).shape == (9, 9, 9) for p in left), "whole masks, and no table of them"


def test_a_bad_cell_names_the_subject(tmp_path: Path) -> None:
    run, made = run_of(tmp_path, 3)
    made[2] |= {"t2": scans.nifti(np.ones((9, 9, 8), np.uint8))}
    with pytest.raises(UserError, match=r"row 2, column 't2': .* shape 9 x 9 x 8, not 9 x 9 x 9 \(of p1\)"):
        predict_run(run, scans.table(made), tmp_path / "masks")


def test_volumes_of_the_cohort_are_learned_and_answered_where_they_lie(tmp_path: Path) -> None:
    """A few steps of the universal model on small volumes, then masks in the space of a scanner."""
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
    made = []
    for number in range(10):
        contrasts, labels = cohort.subject(number, dims=3, side=16)
        cells = {name: scans.nifti(voxels, affine) for name, voxels in contrasts.items()}
        split = "train" if number < 6 else "val" if number < 8 else "test"
        made.append({"id": f"person {number}", "split": split, **cells, "lesion": scans.nifti(labels, affine)})
    source, quick = pa.Table.from_pylist(made), replace(scans.QUICK, epochs=2, batch=2, validations=1)
    config = RunConfig(
        table="scans",
        modality=dict.fromkeys(cohort.CONTRASTS, "volume"),
        target="lesion=mask",
        id="id",
        method="universal",
        model=scans.TINY,
        training=quick,
        masks=Masks(**cohort.DECLARATION["masks"], crop=[12], window=[12]),
    )
    report = train_run(config, tmp_path / "run", source=source)
    assert len(report["patterns"]) == 15 and report["reconstruction"]["rows"] == 2
    heard: list[str] = []
    hidden = source.set_column(2, "flair", pa.nulls(10, pa.binary()))
    predict_run(load_run(tmp_path / "run"), hidden, tmp_path / "masks", say=heard.append)
    assert heard[-1] == "row 9, window 8" and len(heard) == 80, "every window of every row is said"
    for row in made:
        image = nibabel.load(tmp_path / "masks" / f"{row['id'].replace(' ', '_')}.nii.gz")
        assert image.shape == (16, 16, 16) and np.allclose(image.affine, affine)
        assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1, 2, 4}
