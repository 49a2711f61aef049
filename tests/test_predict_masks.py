"""Masks in a folder: where they lie, which labels they hold, and what becomes of rows with nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests import scans
from tests.damage import write_run

from absentia.cli import main
from absentia.data.schema import Target
from absentia.data.segmentation import Masks
from absentia.errors import UserError
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
