"""The benchmarks run: each in its smallest form, in a process of its own, as `make bench` would start it."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from tests import tiny
from torch.nn.functional import one_hot

from absentia.config import StreamConfig
from absentia.data.kinds.pretrained import PretrainedDecoder
from absentia.data.schema import Target
from absentia.data.table import open_table
from absentia.data.target import TargetCodec
from absentia.errors import UserError
from absentia.models.encoders.pretrained import PretrainedEncoder
from absentia.streams import learn_run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def smoke(name: str, out: Path, *flags: str, ending: str = "") -> list[dict[str, Any]]:
    """The rows of a benchmark's result."""
    script = BENCHMARKS / f"{name}.py"
    command = [sys.executable, "-W", "error", str(script), "--smoke", *flags, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((out / f"{name}{ending}.json").read_text(encoding="utf-8"))
    assert {"command", "date", "seeds", "hardware", "rows"} <= result.keys()
    assert result["command"].startswith(f"python benchmarks/{name}.py --smoke")
    return result["rows"]  # type: ignore[no-any-return]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks folder, as its scripts do."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_simple_peers_beat_chance_and_lose_to_complete_data(tmp_path: Path) -> None:
    score = {row["peer"]: row["score"] for row in smoke("simple_peers", tmp_path) if "seeds" in row}
    masked = {name: value for name, value in score.items() if not name.startswith("complete")}
    assert set(masked) == {"late fusion", "trees", "imputation"}
    assert min(masked.values()) > 0.5
    assert max(masked.values()) < score["complete, late fusion"]


def test_masks_are_measured_under_every_pattern(tmp_path: Path) -> None:
    rows = smoke("segmentation", tmp_path)
    assert [row["method"] for row in rows if "seeds" in row] == ["ignore", "dropout"]
    assert all(row["metric"] == "dice" and set(row["patterns"]) == {"t1", "flair", "t1+flair"} for row in rows)


def test_only_cells_that_are_present_are_opened(tmp_path: Path) -> None:
    rows = smoke("decode_cost", tmp_path)
    assert [row["hidden"] for row in rows] == [0, 0.5, 0.9]
    assert all(row["opened"] == row["cells"] for row in rows)
    assert rows[2]["ratio"] < rows[1]["ratio"] < 1


def test_a_long_table_is_inspected_and_answered_in_little_memory(tmp_path: Path) -> None:
    rows = {row["command"]: row for row in smoke("million_rows", tmp_path)}
    assert list(rows) == ["absentia train", "absentia inspect", "absentia predict"]
    assert max(row["peak_mb"] for row in rows.values()) < 2048
    assert rows["absentia predict"]["accuracy"] > 0.5


def test_a_step_of_rebq_costs_the_tokens_that_are_there(tmp_path: Path) -> None:
    check, *rows = smoke("rebq_step", tmp_path)
    assert check["difference"] < 1e-3, "the plain rendition is the same computation"
    found = {(row["case"], row["variant"]): row for row in rows}
    for words in (8, 24):
        full, image, empty = words + 10, 10, 2  # 3 x 3 patches and their [CLS]; an empty text is [CLS][SEP]
        tokens = {name: found[f"step, {words} words", name]["tokens"] for name in ("plain", "exact", "default")}
        assert tokens["plain"] == 6 * full + 2 * 6 * (full + 8) + 2 * 4 * full
        memory = 3 * (empty + image + 8) + 2 * (full + 8)  # without text, and a text with a white picture
        assert tokens["exact"] == full + 8 + 2 * (memory + 2 * full + 2 * (empty + image))
        memory = 3 * (1 + image + 8) + 2 * (words + 1 + 8)
        assert tokens["default"] == full + 8 + 2 * (memory + full + 2 * (1 + image) + words + 1)
    assert found["step, 8 words", "late"]["tokens"] == found["step, 8 words", "default"]["tokens"]
    assert found["answer, 8 words", "default"]["tokens"] < found["answer, 8 words", "exact"]["tokens"]


def test_a_table_that_is_not_there_is_passed_over(
    inside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--tables", "mfeat", "--data", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["simple_peers.py", *words])
    inside("simple_peers").main()
    assert "passed over: mfeat: there is no" in capsys.readouterr().err
    assert json.loads((tmp_path / "simple_peers.json").read_text())["rows"] == []


def test_a_stream_and_what_is_left_of_its_table(inside: Any, tmp_path: Path) -> None:
    streams = inside("_streams")
    found = streams.prepared_streams(["smoke"], None, tmp_path)["smoke"]
    stream, rest = pq.read_table(found.table), pq.read_table(found.pretrain)
    assert stream.column_names == ["id", "session", "split", "left", "right", "word", "label"]
    assert rest.column_names == ["id", "split", "left", "right", "word"]
    assert not set(stream["id"].to_pylist()) & set(rest["id"].to_pylist())
    assert stream.num_rows + rest.num_rows == 600
    sessions, labels = stream["session"].to_pylist(), stream["label"].to_pylist()
    assert {s: len({y for t, y in zip(sessions, labels, strict=True) if t == s}) for s in sessions} == {0: 2, 1: 2}
    assert len(set(zip(labels, sessions, strict=True))) == 4
    assert {(s, part) for s, part in zip(sessions, stream["split"].to_pylist(), strict=True)} >= {
        (1, "val"),
        (0, "test"),
    }
    before = Path(found.table).read_bytes()
    assert streams.prepared_streams(["smoke"], None, tmp_path)["smoke"] == found
    assert Path(found.table).read_bytes() == before


def test_a_stream_by_another_column_and_one_with_too_few_rows(inside: Any) -> None:
    streams = inside("_streams")
    table = pa.table({"id": list("abcdefgh"), "who": list("xxyyzzyx"), "x": list(range(8)), "y": list("ababbabb")})
    taught, left = streams._dealt("t", table, ["x=tabular"], "y", streams.Dealt(2, 1, by="who", least=1))
    assert len(set(zip(taught["session"].to_pylist(), taught["y"].to_pylist(), strict=True))) == 4
    assert taught.num_rows + left.num_rows == 8 and left.column_names == ["id", "split", "x"]
    few = streams._session_of("t", list("aab"), ["train"] * 3, streams.Dealt(1, 1, least=2))
    assert few == {"a": 0}
    assert set(streams._session_of("t", list("aab"), ["train"] * 3, streams.Dealt(2, 1, least=2))) == {"a", "b"}


def test_what_a_plan_hides_does_not_reach_the_peers(inside: Any) -> None:
    features = inside("_features")
    draw = np.random.default_rng(0)
    presence = draw.random((40, 2)) < 0.6
    numbers, words = draw.normal(size=(40, 3)).astype(np.float32), np.asarray(["ash elm", "oak"] * 20, dtype=object)
    numbers2, words2 = numbers.copy(), words.copy()
    numbers2[~presence[:, 0]], words2[~presence[:, 1]] = np.inf, "a word that nobody has seen"

    def seen(a: Any, b: Any) -> Any:
        everything = np.ones((40, 2), dtype=np.bool_)
        part = features.Part(x={"a": a, "b": b}, presence=everything, y=np.arange(40), ids=[str(i) for i in range(40)])
        return features.parts_under({"train": part}, {"train": presence})["train"]

    for name, matrix in seen(numbers, words).x.items():
        np.testing.assert_array_equal(matrix, seen(numbers2, words2).x[name])
    assert np.isnan(seen(numbers, words).x["a"][~presence[:, 0]]).all()


def fitted_peer(name: str, labels: list[Any], inside: Any) -> tuple[Any, Any]:
    """A peer that learned from two modalities, of which `b` is seldom there, and the rows that it learned from."""
    target = Target("kind", "number" if isinstance(labels[0], float) else "class")
    codec = TargetCodec.fit(target, labels)
    y = codec.encode(labels)
    presence = np.tile([[True, False], [True, True], [False, True], [True, False]], (len(y) // 4, 1))
    x = {"a": y[:, None] + np.float32(0.1), "b": -y[:, None].astype(np.float32)}
    x = {key: np.where(presence[:, [m]], column, np.nan) for m, (key, column) in enumerate(x.items())}
    part = inside("_features").Part(x=x, presence=presence, y=y, ids=[str(i) for i in range(len(y))])
    return inside("_peers").PEERS[name](codec, 0).fit(part, part), part


@pytest.mark.parametrize("name", ["late fusion", "trees", "imputation"])
@pytest.mark.parametrize("labels", [["x", "y", "y", "y"] * 20, [1.0, 2.0, 5.0, 3.0] * 20], ids=["class", "number"])
def test_a_peer_answers_any_pattern(name: str, labels: list[Any], inside: Any) -> None:
    peer, part = fitted_peer(name, labels, inside)
    answers = peer.answer(part)
    best = answers.argmax(axis=1) if answers.shape[1] > 1 else answers[:, 0]
    assert np.abs(best - part.y).mean() < 0.2 * np.abs(part.y - part.y.mean()).mean()
    alone = part.under(np.asarray([True, False]))
    assert len(alone.y) == 60
    assert np.isfinite(peer.answer(alone)).all()


def test_without_anything_late_fusion_answers_the_class_shares(inside: Any) -> None:
    peer, part = fitted_peer("late fusion", ["x", "y", "y", "y"] * 20, inside)
    nothing = replace(part, presence=np.zeros_like(part.presence))
    np.testing.assert_allclose(peer.answer(nothing), np.tile([0.25, 0.75], (80, 1)))


def test_the_ledger_grows_at_its_end(inside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = inside("_results")
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / "absent_cost.py"), "--small"])
    ledger = tmp_path / "LEDGER.md"
    for figure in ("first | with a bar", "second"):
        results.record("what", figure, [0, 1], results.RESULTS / "absent_cost.json", ledger)
    lines = ledger.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Ledger"
    assert lines[-2].count(" | ") == lines[-1].count(" | ") == 6
    assert "first \\| with a bar" in lines[-2]
    assert "`python benchmarks/absent_cost.py --small` | 0, 1 |" in lines[-1]
    assert lines[-1].endswith("second | `benchmarks/results/absent_cost.json` |")


def test_features_drift_with_the_prompts_of_later_sessions_alone(inside: Any, tmp_path: Path) -> None:
    table = tmp_path / "tiny.parquet"
    pq.write_table(tiny.table([row for row in tiny.rows(holes=0.2) if row["words"] is not None]), table)
    found, last = {}, {}
    for name, options in {"intended": {}, "released": {"variant": "released"}, "probe": {}}.items():
        base = tiny.config("probe" if name == "probe" else "rebq", names=["words", "facts"], options=options)
        given = {key: getattr(base, key) for key in ("modality", "target", "method", "model", "training", "options")}
        config = StreamConfig(table=str(table), id="id", split="split", classes=[["ant", "bee"], ["cat"]], **given)
        last[name] = learn_run(config, tmp_path / name, page=False)["average_last"]
        found[name] = inside("_drift").drift_of(tmp_path / name)
    assert found["probe"] == {}
    assert found["released"]["drift"] == 0 < found["intended"]["drift"]
    assert found["released"]["drift_cosine"] == pytest.approx(1) and found["intended"]["drift_cosine"] < 1
    assert found["released"]["average_held"] == pytest.approx(last["released"])


def test_features_are_computed_once(tmp_path: Path) -> None:
    empty, filled, epochs = smoke("feature_cache", tmp_path)
    assert (empty["cache"], filled["cache"]) == ("empty", "filled")
    assert filled["cpu_seconds"] < empty["cpu_seconds"]
    assert epochs["rows"] == 160 and epochs["ratio"] > 1


def test_adapters_cost_what_they_cost(tmp_path: Path) -> None:
    rows = smoke("modulation", tmp_path)
    variants = {(row["case"], row["variant"]) for row in rows}
    assert {("forward", "mixed"), ("forward", "grouped"), ("training step", "one"), ("size", "file")} <= variants


def test_adapters_are_right_or_refused_where_peft_may_be_silently_wrong(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs peft")
    rows = smoke("peft_today", tmp_path)
    ours = {row["case"]: row["says"] for row in rows if row["variant"] == "absentia"}
    assert len(rows) == 2 * len(ours) == 14
    refused = {case for case, says in ours.items() if says.startswith("refused: ")}
    assert refused == {"weight read", "other weights"}
    assert all(says == "right" for case, says in ours.items() if case not in refused)


def test_adapters_win_back_a_part(tmp_path: Path) -> None:
    rows = {row["row"]: row for row in smoke("adaptation", tmp_path) if "seeds" in row}
    assert rows["scale-shift"]["mean"] > rows["base"]["mean"]
    assert rows["scale-shift sparse"]["share"] < rows["scale-shift"]["share"]


def test_adapters_are_measured_where_every_pixel_has_a_class(tmp_path: Path) -> None:
    rows = {row["row"]: row for row in smoke("adaptation", tmp_path, "--subjects", "scenes") if "seed" in row}
    assert set(rows) == {"base", "scale-shift", "scale-shift sparse", "dedicated"}
    for row in rows.values():
        assert set(row["patterns"]) == {"rgb", "depth"} and 0 < row["worst"] <= row["mean"] < 1
    assert rows["base"]["mean"] < rows["base"]["full"]


def test_scenes_are_the_same_for_a_seed_and_tell_what_they_say(inside: Any) -> None:
    module = inside("_scenes")
    inputs, labels = module.scenes(64, 5)
    again, same = module.scenes(64, 5)
    assert labels.equal(same) and all(inputs[name].equal(again[name]) for name in ("rgb", "depth"))
    assert not labels.equal(module.scenes(64, 6)[1])
    assert set(labels.unique().tolist()) == set(range(len(module.CLASSES)))
    clean = inputs["rgb"].movedim(1, -1)
    means = {name: clean[labels == number].mean(0) for number, name in enumerate(module.CLASSES)}
    assert (means["red dome"] - means["red plate"]).abs().max() < 0.2 < means["red dome"][0] - means["blue dome"][0]
    heights = {name: -inputs["depth"][:, 0][labels == n].mean() for n, name in enumerate(module.CLASSES)}
    assert abs(heights["poster"] - heights["wall"]) < 0.3 < heights["grey dome"] - heights["wall"]


def test_overlap_is_that_of_the_classes_that_are_there(inside: Any) -> None:
    overlap = inside("_networks")._overlap
    target = torch.tensor([[[0, 0], [1, 1]]])
    assert overlap(one_hot(target, 7).movedim(-1, 1), target) == 1
    half = torch.tensor([[[0, 0], [1, 2]]])  # class 1 half found, class 2 wrongly
    assert overlap(one_hot(half, 7).movedim(-1, 1), target) == pytest.approx((1 + 0.5 + 0) / 3)


def test_texts_of_like_length_are_padded_less(tmp_path: Path) -> None:
    (row,) = smoke("text_lengths", tmp_path)
    assert 1 < row["tokens"]["alike"] < 0.7 * row["tokens"]["together"]
    assert row["difference"] < 1e-4 * row["largest"]


def test_the_side_stream_keeps_less_and_gives_the_same_gradient(tmp_path: Path) -> None:
    for row in smoke("side_stream", tmp_path):
        assert row["saved"] < 1 and row["difference"] < 1e-3


def test_the_share_of_the_gap_that_guesses_close(tmp_path: Path) -> None:
    rows = {row["row"]: row for row in smoke("prediction", tmp_path) if "seed" in row}
    assert rows["present only"]["closed_in_all"] == 0 and rows["oracle"]["closed_in_all"] == 1
    assert rows["present only"]["everything"] == rows["gaussian"]["everything"] == rows["oracle"]["everything"]
    assert rows["oracle"]["incomplete"] == pytest.approx(rows["oracle"]["everything"])  # a mean of the same
    assert set(rows["guard off"]["say"].values()) == {1.0}
    assert len(rows["nearest"]["r2"]) == 6 and not rows["single-branch"]["r2"]


def test_the_universal_model_is_compared_on_the_cohort(tmp_path: Path) -> None:
    rows = [row for row in smoke("cohort", tmp_path) if "seed" in row]
    assert [row["row"] for row in rows] == ["dropout", "universal"]
    assert all(len(row["patterns"]) == 15 and 0 <= row["worst"] <= row["mean"] <= 1 for row in rows)


def test_a_step_of_the_universal_model_is_timed_beside_the_plain_one(tmp_path: Path) -> None:
    rows = smoke("universal_step", tmp_path)
    found = {(row["case"], row.get("variant")): row for row in rows}
    assert found["tokens", "plain"]["times"] == found["planes", "plain"]["times"] == 1
    assert {variant for case, variant in found if case == "planes"} == {
        *("plain", "universal", "filled", "apart", "student", "imagine")
    }
    assert found["masks", None]["at_once"] > 0 < found["masks", None]["loop"]


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    flags = ("--curve", "--epochs", "0.5", "--rows", "joint-embedding", "present only")
    rows = smoke("prediction", tmp_path, *flags, ending="-curve")
    assert {row["complete"] for row in rows} == {0.01, 0.05, 0.1, 0.3, 1.0}
    assert (tmp_path / "prediction-curve.png").stat().st_size > 1000


def test_one_branch_beside_several(tmp_path: Path) -> None:
    flags = ("--branches", "--epochs", "0.5", "--rows", "one branch", "separate branches")
    rows = smoke("prediction", tmp_path, *flags, ending="-branches")
    assert {row["case"] for row in rows} == {"complete training rows", "incomplete training rows"}
    assert all(0 <= row["found"]["left by right, eer"] <= 1 for row in rows)


def test_a_small_vision_transformer_of_a_tables_own_photos(tmp_path: Path, inside: Any) -> None:
    vit, draw = inside("_vit"), np.random.default_rng(0)
    photos = [_png(draw.integers(0, 256, (9, 12, 3), np.uint8)) for _ in range(6)]
    rows = pa.table({"photo": [*photos, None, b"no photo"], "split": ["train"] * 7 + ["test"]})
    folder = vit.pretrained_vit(open_table(rows), "photo", tmp_path / "vit", epochs=1, batch=4)
    encoder = PretrainedEncoder(kind="image", source=str(folder))
    cell = PretrainedDecoder(kind="image", source=str(folder)).decode(photos[0])
    tokens, _ = encoder(pixel_values=torch.from_numpy(cell["pixel_values"])[None])
    assert tokens.shape == (1, 65, 96) and tokens.isfinite().all()
    with pytest.raises(UserError, match="without a column split"):
        vit.pretrained_vit(open_table(rows.drop_columns("split")), "photo", tmp_path / "none", epochs=1, batch=4)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--vit", "picture"], "--vit picture: the photos of glyphs are image"),
        (["--vit", "text"], "--vit text: the photos of glyphs are image"),
        (["--vit", "image", "--smoke"], "the photos of smoke are none"),
        (["--tune", "biases"], "name some with --encoder or --vit"),
    ],
)
def test_flags_about_encoders_that_fit_no_modality_are_refused(
    flags: list[str], says: str, inside: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prediction.py", *flags])
    with pytest.raises(SystemExit):
        inside("prediction")._asked()
    assert says in capsys.readouterr().err


def _png(pixels: Any) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(pixels).save(kept, "PNG")
    return kept.getvalue()
