"""The command line as a user types it: every command, its YAML, and one clear line for each mistake."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from absentia.cli import main
from absentia.config import RunConfig, StreamConfig, config_from
from absentia.data.catalog import declaration
from absentia.data.schema import modality_from, modality_from_flag
from absentia.flags import METHOD
from absentia.methods import METHODS

ROOT = Path(__file__).parents[1]
SMALL = ["--training.epochs", "2", "--training.batch", "16", "--model.width", "16", "--model.depth", "1"]
WORDS = {"ash": ["green leaf", "a tall tree"], "bee": ["it hums", "yellow and black"], "cat": ["soft fur", "it purrs"]}
DECLARED = ["--modality", "photo=image", "--modality", "words=text", "--modality", "facts=tabular@size,colour"]


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), shade).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int = 90) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    labels = draw.choice(list(WORDS), count)
    photos = [picture(60 * list(WORDS).index(label) + 20) for label in labels]
    texts: list[str | None] = [f"{draw.choice(WORDS[label])}, seen {i} times" for i, label in enumerate(labels)]
    sizes = [list(WORDS).index(label) + draw.normal() for label in labels]
    texts[::5] = [None] * len(texts[::5])
    return pd.DataFrame(
        {
            "id": [f"row{i}" for i in range(count)],
            "photo": photos,
            "words": texts,
            "size": sizes,
            "colour": draw.choice(["red", "blue"], count),
            "label": labels,
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, a mask plan and a finished run."""
    folder = tmp_path_factory.mktemp("cli")
    rows().to_parquet(folder / "things.parquet")
    table, plan = str(folder / "things.parquet"), str(folder / "plan.parquet")
    masked = ["mask", table, *DECLARED, "--p_incomplete", "0.5", "--parts", "train", "val", "--out", plan]
    assert main(masked) == 0
    trained = ["train", table, *DECLARED, "--target", "label", "--plan", plan, "--out", str(folder / "run"), *SMALL]
    assert main(trained) == 0
    return folder


def failed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a mistake is answered with."""
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.startswith("absentia: ") and "Traceback" not in line
    return line


def test_a_run_folder_holds_everything(folder: Path) -> None:
    run = folder / "run"
    names = {path.name for path in run.iterdir()}
    expected = {"config.yaml", "schema.json", "plan.parquet", "metrics.jsonl", "weights.safetensors", "report.html"}
    assert names == expected | {"report.json", "reference.safetensors"}
    report = json.loads((run / "report.json").read_text())
    assert len(report["patterns"]) == 7 and report["reference_method"] == "ignore"
    assert report["plan"]["asked"]["train"]["p_incomplete"] == 0.5


def test_evaluate_again_gives_the_same_scores(folder: Path) -> None:
    out = folder / "again.json"
    assert main(["evaluate", str(folder / "run"), "--out", str(out)]) == 0
    before, after = (json.loads(path.read_text())["patterns"] for path in (folder / "run" / "report.json", out))
    assert [(p["pattern"], p["score"], p["reference"]) for p in before] == [
        (p["pattern"], p["score"], p["reference"]) for p in after
    ]


def test_evaluate_asked_patterns_of_another_table(folder: Path, tmp_path: Path) -> None:
    rows(20).to_parquet(tmp_path / "more.parquet")
    out = tmp_path / "scores.json"
    asked = ["evaluate", str(folder / "run"), str(tmp_path / "more.parquet"), "--part", "all"]
    assert main([*asked, "--patterns", "photo", "photo+words", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert {(p["pattern"], p["n"]) for p in report["patterns"]} == {("photo", 20), ("photo+words", 16)}


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_predict_answers_every_row(folder: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"answers.{ending}"
    table = rows(30).drop(columns="label")
    table.to_parquet(tmp_path / "new.parquet")
    assert main(["predict", str(folder / "run"), str(tmp_path / "new.parquet"), "--out", str(out)]) == 0
    answers = pd.read_parquet(out) if ending == "parquet" else pd.read_csv(out)
    assert list(answers.columns) == ["row", "id", "prediction", "probability", "uncertainty", "pattern"]
    assert list(answers["id"]) == list(table["id"]) and set(answers["prediction"]) <= set(WORDS)
    assert set(answers["pattern"]) == {"photo+words+facts", "photo+facts"}


def test_predict_without_a_column(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows(10).drop(columns="words").to_parquet(tmp_path / "new.parquet")
    words = ["predict", str(folder / "run"), str(tmp_path / "new.parquet"), "--out", str(tmp_path / "a.csv")]
    assert "no column 'words'" in failed(words, capsys)
    assert main([*words, "--absent", "words"]) == 0
    assert set(pd.read_csv(tmp_path / "a.csv")["pattern"]) == {"photo+facts"}


def test_predict_lists_cells_it_cannot_read(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(10)
    table.loc[3, "photo"] = table.loc[3, "photo"][:20]
    table.to_parquet(tmp_path / "bad.parquet")
    words = ["predict", str(folder / "run"), str(tmp_path / "bad.parquet"), "--out", str(tmp_path / "a.csv")]
    assert "row 3, column 'photo'" in failed(words, capsys) and not (tmp_path / "a.csv").exists()
    assert main([*words, "--on-bad", "absent"]) == 0
    assert pd.read_csv(tmp_path / "a.csv").loc[3, "pattern"] == "words+facts"
    assert "1 cells could not be read" in capsys.readouterr().err
    assert main([*words, "--on-bad=skip"]) == 0
    assert 3 not in set(pd.read_csv(tmp_path / "a.csv")["row"])


def test_inspect_and_its_saved_schema(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, saved = str(folder / "things.parquet"), tmp_path / "schema.yaml"
    assert main(["inspect", table, "--target", "label", "--save", str(saved)]) == 0
    seen = " ".join(capsys.readouterr().out.split())
    assert "90 rows" in seen and "photo" in seen and "80.0 %" in seen
    assert set(yaml.safe_load(saved.read_text())["modality"]) == {"photo", "words", "facts"}
    assert main(["inspect", table, "--config", str(saved)]) == 0


def test_a_config_file_says_the_same_as_flags(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["train", str(folder / "things.parquet"), *DECLARED, "--target", "label", "--training.lr", "0.01"]
    with pytest.raises(SystemExit) as done:
        main([*flags, "--print_config"])
    assert done.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["training"]["lr"] == 0.01 and printed["modality"] == DECLARED[1::2]
    printed |= {"out": str(tmp_path / "run"), "reference": False}
    printed["training"] |= {"epochs": 1}
    printed["model"] |= {"width": 16, "depth": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(printed))
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 0
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"table: \xff\xfe", "run.yaml: byte 7 is no UTF-8"),
        (b"", "run.yaml: is empty"),
        (b"- a\n- b\n", "run.yaml: holds a list"),
        (b"a: [\n", "run.yaml: no YAML (while parsing"),
    ],
)
def test_a_config_file_without_settings(
    content: bytes, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    assert sentence in failed(["train", "--config", str(tmp_path / "run.yaml")], capsys)


def test_rules_for_each_split_from_yaml(folder: Path, tmp_path: Path) -> None:
    settings = {
        "table": str(folder / "things.parquet"),
        "modality": {"photo": "image", "words": "text"},
        "rules": {
            "train": {"p_absent": {"photo": 0.5}},
            "test": {"mechanism": "mar", "p_absent": {"words": 0.4}, "depends_on": "size"},
        },
        "out": str(tmp_path / "plan.parquet"),
    }
    (tmp_path / "mask.yaml").write_text(yaml.safe_dump(settings))
    assert main(["mask", "--config", str(tmp_path / "mask.yaml")]) == 0


def test_compare_says_when_plans_differ(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "plain")
    words = ["train", str(folder / "things.parquet"), *DECLARED, "--target", "label", "--reference", "false"]
    assert main([*words, "--out", out, *SMALL]) == 0
    capsys.readouterr()
    assert main(["compare", str(folder / "run"), out]) == 0
    assert "plan" in capsys.readouterr().out.lower()


def test_resume_of_a_finished_run_and_a_second_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(folder / "things.parquet"), *DECLARED, "--target", "label", "--out", str(folder / "run")]
    assert "--resume" in failed([*words, *SMALL], capsys)
    assert main(["train", "--resume", "--out", str(folder / "run")]) == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["train", "{table}", "--modality", "photo=imgae", "--target", "label"], "did you mean 'image'"),
        (["train", "{table}", "--modality", "foto=image", "--target", "label"], "did you mean 'photo'"),
        (["train", "{table}", "--modality", "photo=image", "--target", "lable"], "did you mean 'label'"),
        (["train", "{table}", "--modality", "photo=image"], "--target"),
        (["train", "{table}", "--modality", "photo", "--target", "label"], "NAME=KIND"),
        (["train", "{table}", *DECLARED, "--target", "label", "--method", "dropuot"], "did you mean 'dropout'"),
        (["train", "{table}", *DECLARED, "--target", "label", "--training.lr", "-1"], "training.lr"),
        (["train", "{table}", *DECLARED, "--target", "label", "--model.width", "15"], "model.width"),
        (["train", "{table}", *DECLARED, "--target", "label", "--trainig.lr", "1"], "did you mean '--training"),
        (["train", "{table}.nowhere", "--target", "label"], "there is no"),
        (["train", "{table}", *DECLARED, "--target", "label", "--plan", "{table}"], "mask plan"),
        (["mask", "{table}", *DECLARED, "--p_incomplete", "1.5", "--out", "x.parquet"], "p_incomplete"),
        (["mask", "{table}", *DECLARED, "--p_absent", "phot=0.5", "--out", "x.parquet"], "did you mean 'photo'"),
        (
            ["mask", "{table}", *DECLARED, "--eta", "0.5", "--exact", "--out", "x.parquet"],
            "--bernoulli or --per_modality",
        ),
        (
            ["mask", "{table}", *DECLARED, "--p_incomplete", "0.5", "--parts", "train", "tset", "--out", "x.parquet"],
            "no rows called 'tset' to hide something from; did you mean 'test'?",
        ),
        (["evaluate", "{folder}"], "not a finished run"),
        (["predict", "{folder}/run", "{table}", "--out", "answers.xlsx"], ".parquet or .csv"),
        (["evaluate", "{folder}/run", "--patterns", "photo+sound"], "no modality 'sound'"),
        (["inspekt", "{table}"], "inspekt"),
    ],
)
def test_one_clear_line(words: list[str], part: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [w.format(table=folder / "things.parquet", folder=folder) for w in words]
    assert part in failed(given, capsys)


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (["inspect", "{table}", *DECLARED, "--save", "{there}"], "folder"),
        (["inspect", "{table}", *DECLARED, "--save", "{there}/schema.yaml"], "nothing"),
        (["mask", "{table}", *DECLARED, "--p_absent", "photo=0.5", "--out", "{there}"], "folder"),
        (["mask", "{table}", *DECLARED, "--p_absent", "photo=0.5", "--out", "{there}/plan.parquet"], "file"),
        (["train", "{table}", *DECLARED, "--target", "label", "--out", "{there}"], "file"),
        (["train", "{table}", *DECLARED, "--target", "label", "--out", "{there}/run"], "file"),
        (["pretrain", "{table}", *DECLARED, "--out", "{there}"], "file"),
    ],
)
def test_where_nothing_can_be_written(
    words: list[str], there: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if there == "folder":
        (tmp_path / "there").mkdir()
    elif there == "file":
        (tmp_path / "there").write_text("mine")
    said = failed([w.format(table=folder / "things.parquet", there=tmp_path / "there") for w in words], capsys)
    assert str(tmp_path / "there") in said and ("cannot be" in said or "is a file" in said)
    assert there != "file" or (tmp_path / "there").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ([] if there == "nothing" else ["there"])


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{run}", "{table}", "--out", "{same}"],
        ["evaluate", "{run}", "{table}", "--out", "{same}"],
        ["retrieve", "{run}", "{table}", "--out", "{same}"],
        ["inspect", "{table}", *DECLARED, "--save", "{same}"],
        ["mask", "{table}", *DECLARED, "--p_absent", "photo=0.5", "--out", "{same}"],
    ],
    ids=lambda words: words[0],
)
def test_no_command_writes_over_its_table(
    words: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "things.parquet"
    table.write_bytes((folder / "things.parquet").read_bytes())
    same = tmp_path / "." / ".." / tmp_path.name / "things.parquet"
    said = failed([word.format(run=folder / "run", table=table, same=same) for word in words], capsys)
    assert "is the table itself" in said and table.read_bytes() == (folder / "things.parquet").read_bytes()


def _with(table: pd.DataFrame, **cells: Any) -> pd.DataFrame:
    return table.assign(**cells)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda t: _with(t, label="same"), "constant"),
        (lambda t: _with(t, words=None), "words"),
        (lambda t: _with(t, label=None), "no training row"),
        (lambda t: t.iloc[:0], "no rows"),
        (
            lambda t: _with(t, split=["train"] * 60 + ["test"] * 30, label=["ash"] * 30 + ["bee"] * 30 + ["elk"] * 30),
            "elk",
        ),
    ],
)
def test_hopeless_tables(spoil: Any, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(rows()).to_parquet(tmp_path / "t.parquet")
    words = [
        "train",
        str(tmp_path / "t.parquet"),
        *DECLARED,
        "--target",
        "label",
        "--out",
        str(tmp_path / "run"),
        *SMALL,
    ]
    if part == "words":  # nothing to learn about one modality is a note, not an end
        assert main(words) == 0
        assert "No row has 'words'" in json.loads((tmp_path / "run" / "report.json").read_text())["notes"][0]
    else:
        assert part in failed(words, capsys)


def test_help_is_quick_to_import() -> None:
    code = "import sys, absentia.cli; print(sorted({'torch', 'datasets', 'transformers', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_valid(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = yaml.safe_load(recipe.read_text())
    stream = content.keys() & {"by", "sessions", "classes"}
    command = ["learn", "runs/stream"] if stream else ["train"]
    with pytest.raises(SystemExit) as done:
        main([*command, "--config", str(recipe), "--print_config"])
    assert done.value.code == 0 and math.isfinite(len(capsys.readouterr().out))
    config = config_from(StreamConfig if stream else RunConfig, content)
    names = {name: modality_from(name, options) for name, options in config.modality.items()}
    known = declaration(config.table)
    if known is not None:
        ours = {name: replace(kind, encoder=None, tune=False, **pooled(kind)) for name, kind in names.items()}
        assert ours == dict(modality_from_flag(flag) for flag in known["modality"])
        assert [config.target, config.id, config.split] == [known[role] for role in ("target", "id", "split")]
        assert not stream or config.by == known["session"]  # type: ignore[attr-defined]


def pooled(kind: Any) -> dict[str, str]:
    """How features are pooled says nothing about columns."""
    return {"pool": "mean"} if hasattr(kind, "pool") else {}


def test_every_recipe_is_told_of() -> None:
    said = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert f"| `{recipe.stem}` |" in said


def test_the_mechanisms_show_that_they_do_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mask", "--self-test"]) == 0
    seen = capsys.readouterr().out
    assert "good" in seen and "NOT GOOD" not in seen


def test_the_help_names_every_method_that_answers_masks() -> None:
    """It is written by hand, so that `--help` waits for no library."""
    for name, method in METHODS.items():
        assert not method.dense or name in METHOD.partition(";")[2], name
    for word in re.findall(r"[a-z]+(?:-[a-z]+)?", METHOD.partition(", or one for streams")[0]):
        assert word in METHODS or word == "or"
