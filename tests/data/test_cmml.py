"""The benchmarks of continual learning: from copies of the data as people have them, also damaged ones."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from absentia.cli import main
from absentia.data.absence import MaskPlan
from absentia.data.catalog import CATALOG, declaration, glyphs_cmml, load, open_source
from absentia.data.catalog import food101_cmml as food
from absentia.data.catalog import mmimdb_cmml as movies
from absentia.data.catalog.cmml import fingerprint, hash_sessions
from absentia.data.catalog.glyphs import FAMILIES
from absentia.data.schema import modality_from_flag, target_from_flag
from absentia.data.table import Table
from absentia.errors import UserError

DISHES = [f"dish_{number:03}" for number in range(101)]
Entries = list[dict[str, Any]]


def rows(table: Table) -> list[dict[str, Any]]:
    return [row for chunk in table.chunks() for row in chunk.to_pylist()]


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"never opened while building")


# ------------------------------------------------------------------------------------------------ Food-101


@pytest.fixture
def dishes(tmp_path: Path) -> Path:
    """101 dishes, four training and two test pictures each, as UPMC Food-101 is laid out."""
    for part, count in (("train", 4), ("test", 2)):
        path = write(tmp_path / "texts" / f"{part}_titles.csv", "")
        with path.open("w", newline="") as file:
            lines = csv.writer(file)
            for dish in DISHES:
                for number in range(count):
                    name = f"{dish}_{number + (part == 'test') * 4}.jpg"
                    lines.writerow([name, f'How to make "{dish}", step {number}', dish])
                    touch(tmp_path / "images" / part / dish / name)
    return tmp_path


def split_file(folder: Path) -> dict[str, list[str]]:
    """A split.json: the fourth training picture of each dish validates."""
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for dish in DISHES:
        split["train"] += [f"{dish}_{number}.jpg" for number in range(3)]
        split["val"] += [f"{dish}_3.jpg"]
        split["test"] += [f"{dish}_{number}.jpg" for number in (4, 5)]
    write(folder / "split.json", split)
    return split


def test_food_in_ten_sessions_of_ten_dishes(dishes: Path) -> None:
    split_file(dishes)
    table = open_source(f"food101-cmml:{dishes}")
    found = rows(table)
    by_session = {number: {row["label"] for row in found if row["session"] == number} for number in range(10)}
    assert [len(labels) for labels in by_session.values()] == [10] * 10
    assert len(set().union(*by_session.values())) == 100 and table.root == dishes
    assert Counter(row["split"] for row in found) == {"train": 300, "val": 100, "test": 200}
    first = next(row for row in found if row["id"].endswith("_0.jpg"))
    assert first["image"] == f"images/train/{first['label']}/{first['label']}_0.jpg"
    assert first["text"] == f'How to make "{first["label"]}", step 0'
    assert all((dishes / row["image"]).is_file() for row in found)


def test_food_says_what_differs_from_the_original(dishes: Path) -> None:
    split_file(dishes)
    built = food.build(dishes)
    said = " ".join(built.notes)
    assert built.counts[3] == {"train": 30, "val": 10, "test": 20}
    assert "3: 30/10/20" in said and built.fingerprint in said
    assert "303/101/202 rows, where 61,142/6,846/22,716 were expected" in said
    left = set(DISHES) - {dish for dishes in built.classes for dish in dishes}
    assert f"left out: {left.pop()}" in said and built.missing == []


def test_food_is_the_same_for_everybody(dishes: Path, tmp_path: Path) -> None:
    built = food.build(dishes)
    for part in ("train", "test"):
        path = dishes / "texts" / f"{part}_titles.csv"
        path.write_text("\n".join(reversed(path.read_text().splitlines())) + "\n")
    assert food.build(str(dishes)).fingerprint == built.fingerprint
    assert food.build(dishes, seed=1).fingerprint != built.fingerprint
    assert built.classes[0] == food.build(dishes).classes[0] != food.build(dishes, seed=1).classes[0]


def test_food_takes_validation_by_hash_where_there_is_none(dishes: Path) -> None:
    built = food.build(dishes)
    count = Counter(sample.split for sample in built.samples)
    assert 20 <= count["val"] <= 60 and count["train"] + count["val"] == 400 and count["test"] == 200
    assert any("no split.json" in note for note in built.notes)
    touch(dishes / "images" / "test" / "dish_000" / "dish_000_7.jpg")
    said = " ".join(food.build(dishes).notes)
    assert "1 pictures have no title and were left out: test/dish_000/dish_000_7.jpg" in said and "/203 rows" in said


def test_food_with_holes(dishes: Path) -> None:
    split = split_file(dishes)
    split["train"].append("dish_000_77.jpg")
    write(dishes / "split.json", split)
    built = food.build(dishes)
    sample = built.samples[0]
    (dishes / sample.image).unlink()
    titles = dishes / "texts" / "train_titles.csv"
    with titles.open("a", newline="") as file:
        csv.writer(file).writerows([["dish_005_9.jpg", "not in split.json", "dish_005"]])
        csv.writer(file).writerows([["dish_005_0.jpg", "again", "dish_005"]])
    built = food.build(dishes)
    said = " ".join(built.notes)
    assert built.missing == [sample.image] and f"1 pictures are not there: {sample.image}" in said
    assert "1 pictures have no title and were left out: dish_000_77.jpg" in said
    assert "1 titles are not in split.json" in said and "1 lines of the titles repeat a file" in said
    assert "again" not in [s.text for s in built.samples] and len(built.samples) == 600


def test_food_without_a_title_lacks_its_text(dishes: Path) -> None:
    titles = dishes / "texts" / "test_titles.csv"
    titles.write_text(re.sub(r'^(\w+\.jpg),".*",', r"\1,,", titles.read_text(), flags=re.MULTILINE))
    found = rows(open_source(f"food101-cmml:{dishes}"))
    assert {row["text"] is None for row in found if row["split"] == "test"} == {True}


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("texts/train_titles.csv", "a.jpg,title\n", "line 1: 2 cells"),
        ("texts/train_titles.csv", "a.jpg,t,pie\nimage,title,class\n", "line 2: expected the file of a picture"),
        ("texts/train_titles.csv", "../a.jpg,t,pie\n", "line 1: expected the file"),
        ("texts/test_titles.csv", "a.jpg,t,pie\n", "100"),
        ("split.json", '{"train": [', "line 1, character"),
        ("split.json", "[1, 2]", "expected a list of names for each"),
        ("split.json", '{"trainn": []}', "none of train, val, test"),
        ("split.json", '{"train": ["a.jpg"], "test": ["a.jpg"]}', "stands in train and in test"),
    ],
)
def test_broken_food(dishes: Path, file: str, content: str, message: str) -> None:
    if file.startswith("texts/test"):
        write(dishes / "texts" / "train_titles.csv", content)
    write(dishes / file, content)
    with pytest.raises(UserError, match=re.escape(message)):
        food.build(dishes)


def test_an_empty_folder_is_not_the_data(tmp_path: Path) -> None:
    for source in (f"food101-cmml:{tmp_path}", f"mmimdb-cmml:{tmp_path}", f"food101-cmml:{tmp_path / 'nowhere'}"):
        with pytest.raises(UserError, match="the folder of the data"):
            open_source(source)


# ----------------------------------------------------------------------------------- the annotation files


def food_entries() -> Entries:
    return [
        {"task_id": t, "split": s, "image": f"{s}/{10 * t + c}.jpg", "text": [f"dish {c}", "easy"], "label": 10 * t + c}
        for t in range(10)
        for c in range(10)
        for s in ("train", "val", "test")
    ]


def movie_entries() -> Entries:
    entries = []
    for t in range(5):
        for number, s in enumerate(("train", "train", "val", "test")):
            label = [int(4 * t <= k < 4 * t + 1 + number) for k in range(20)]
            entries.append({"task_id": t, "split": s, "image": f"{t}-{number}.jpeg", "text": "a plot", "label": label})
    return entries


def test_food_annotations_are_used_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / food.FILE, food_entries())
    for entry in food_entries()[1:]:
        touch(tmp_path / "images" / entry["image"])
    table = open_source(f"food101-cmml:{tmp_path}")
    row = rows(table)[32]
    assert row == {
        "id": "test/10.jpg",
        "session": 1,
        "split": "test",
        "image": "images/test/10.jpg",
        "text": "dish 0. easy",
        "label": "10",
    }
    built = food.build(tmp_path)
    assert built.counts == {t: {"train": 10, "val": 10, "test": 10} for t in range(10)}
    assert built.missing == ["images/train/0.jpg"] and built.classes[9][0] == "90"
    assert built.fingerprint in " ".join(table.notes)


def test_movie_annotations_and_the_labels_that_rows_keep(tmp_path: Path) -> None:
    entries = movie_entries()
    entries[4]["label"] = [1, *entries[4]["label"][1:-1], 1]  # session 1, with a label of session 0 and one of 4
    write(tmp_path / movies.FILE, entries)

    def labels(choice: str) -> list[str]:
        return list(rows(open_source(f"mmimdb-cmml:{tmp_path}{choice}"))[4]["labels"])

    assert labels("") == labels(":all") == ["0", "4", "19"]
    assert labels(":session") == ["4"] and labels(":seen") == ["0", "4"]
    said = " ".join(movies.build(tmp_path).notes)
    assert "2 of 52 labels belong to another session" in said
    with pytest.raises(UserError, match="did you mean 'seen'"):
        movies.build(tmp_path, keep="see")


def spoiled(key: str, value: Any) -> Callable[[Entries], Any]:
    def spoil(entries: Entries) -> Entries:
        entries[7][key] = value
        return entries

    return spoil


def lacking(entries: Entries) -> Entries:
    del entries[7]["text"]
    return entries


BROKEN: list[tuple[Any, str]] = [
    (spoiled("task_id", 10), "entry 7: task_id 10 is none of 0 to 9"),
    (spoiled("task_id", True), "entry 7: task_id True"),
    (spoiled("task_id", "0"), "entry 7: task_id '0'"),
    (spoiled("split", "tset"), "entry 7: split 'tset' is unknown; did you mean 'test'"),
    (spoiled("split", ["test"]), "entry 7: split"),
    (spoiled("image", ""), "entry 7: image ''"),
    (spoiled("image", "/etc/passwd"), "entry 7: image '/etc/passwd'"),
    (spoiled("image", "../../x.jpg"), "entry 7: image"),
    (spoiled("image", None), "entry 7: image None"),
    (spoiled("text", 3), "entry 7: text 3"),
    (spoiled("text", ["a", None]), "entry 7: text"),
    (spoiled("label", 10), "entry 7: label 10 is none of 0 to 9, the classes of task 0"),
    (spoiled("label", "2"), "entry 7: label '2'"),
    (spoiled("label", [1, 0]), "entry 7: label [1, 0]"),
    (lacking, "entry 7: has no 'text'"),
    (lambda entries: [*entries, 5], "entry 300: 5 is no object"),
    (lambda entries: [{} for _ in entries], "300 of 300 entries are broken"),
    (lambda entries: {"a": entries}, "expected a list of entries"),
    (lambda entries: [], "expected a list of entries"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_broken_annotations(tmp_path: Path, spoil: Callable[[Entries], Any], message: str) -> None:
    write(tmp_path / food.FILE, spoil(food_entries()))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        food.build(tmp_path)
    assert food.FILE in str(caught.value)


@pytest.mark.parametrize("label", [3, [1] * 19, [2] + [0] * 19, ["1"] + [0] * 19, [float("nan")] + [0] * 19])
def test_broken_labels(tmp_path: Path, label: Any) -> None:
    write(tmp_path / movies.FILE, spoiled("label", label)(movie_entries()))
    with pytest.raises(UserError, match="entry 7: label"):
        movies.build(tmp_path)


@pytest.mark.parametrize("content", [b'[{"task_id": 0,\n "split"', b"\xff\xfe", b"[" * 100_000, b""])
def test_annotations_that_are_no_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / food.FILE).write_bytes(content)
    with pytest.raises(UserError, match=food.FILE):
        food.build(tmp_path)


# ------------------------------------------------------------------------------------------------ MM-IMDb


def film_files(folder: Path, labels: str = "dataset", posters: str = "dataset") -> dict[str, list[str]]:
    """Films of every genre: the k-th genre has k + 3 films, and every film is a drama too."""
    split: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for k, genre in enumerate(movies.GENRES):
        for number in range(k + 3):
            name = f"{k:02}{number:05}"
            genres = [genre, "News"] if genre == "Drama" else [genre, "Drama"]
            write(folder / labels / f"{name}.json", {"genres": genres, "plot": [f"A {genre}", "It ends"], "year": 1999})
            touch(folder / posters / f"{name}.jpeg")
            split[("dev", "test", "train")[min(number, 2)]].append(name)
    write(folder / "split.json", split)
    return split


@pytest.mark.parametrize("layout", movies.LAYOUTS)
def test_films_in_the_session_of_their_rarest_genre(tmp_path: Path, layout: tuple[str, str]) -> None:
    split = film_files(tmp_path, *layout)
    table = open_source(f"mmimdb-cmml:{tmp_path}")
    found = {row["id"]: row for row in rows(table)}
    built = movies.build(tmp_path)
    assert [len(genres) for genres in built.classes] == [4] * 5
    chosen = {genre for genres in built.classes for genre in genres}
    assert set(movies.GENRES) - chosen == {"Action", "Adventure", "Animation"}  # the three with fewest films
    for name in (n for names in split.values() for n in names):
        genre, row = movies.GENRES[int(name[:2])], found[f"{name}.jpeg"]
        if genre in chosen:
            session = next(s for s, genres in enumerate(built.classes) if genre in genres)
            assert row["session"] == session and genre in row["labels"] and set(row["labels"]) <= {genre, "Drama"}
            assert ("Drama" in row["labels"]) == ("Drama" in built.classes[session])
        else:
            assert row["labels"] == ["Drama"]
    one = found["2200000.jpeg"]
    assert one["text"] == "A Western. It ends" and one["image"] == f"{layout[1]}/2200000.jpeg" and one["split"] == "val"
    assert any("where 15,552/2,608/7,799 were expected" in note for note in table.notes)
    assert any("rarest" in note for note in table.notes) and table.root == tmp_path


def test_films_keep_the_labels_that_they_are_to_keep(tmp_path: Path) -> None:
    film_files(tmp_path)
    session, seen, everything = (movies.build(tmp_path, keep=keep) for keep in ("session", "seen", "all"))
    drama = next(s for s, genres in enumerate(session.classes) if "Drama" in genres)
    for a, b, c in zip(session.samples, seen.samples, everything.samples, strict=True):
        assert "Drama" in c.label and ("Drama" in b.label) == (c.session >= drama)
        assert set(a.label) == set(c.label) & set(session.classes[a.session])
    assert len({built.fingerprint for built in (session, seen, everything)}) == 3


def test_films_without_a_split_file(tmp_path: Path) -> None:
    film_files(tmp_path)
    (tmp_path / "split.json").unlink()
    built = movies.build(tmp_path)
    counts = Counter(sample.split for sample in built.samples)
    total = counts.total()
    assert 0.15 < counts["test"] / total < 0.45 and 0.03 < counts["val"] / total < 0.2
    assert any("there is no split.json: they were taken by hash" in note for note in built.notes)


def test_films_with_holes(tmp_path: Path) -> None:
    film_files(tmp_path)
    (tmp_path / "dataset" / "2200000.json").unlink()
    (tmp_path / "dataset" / "2200001.jpeg").unlink()
    write(tmp_path / "dataset" / "2200002.json", {"genres": ["Reality-TV"]})
    write(tmp_path / "dataset" / "2200003.json", {"genres": ["War"]})
    built = movies.build(tmp_path)
    said = " ".join(built.notes)
    assert "1 films of split.json have no JSON file and were left out: 2200000" in said
    assert "1 pictures are not there: dataset/2200001.jpeg" in said
    assert "1 films have none of the genres" in said
    assert next(s for s in built.samples if s.id == "2200003.jpeg").text is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "0000000.json, line 1"),
        ([1], "expected an object with 'genres'"),
        ({"plot": ["x"]}, "expected an object with 'genres'"),
        ({"genres": "Drama"}, "expected an object with 'genres'"),
        ({"genres": [3]}, "expected an object with 'genres'"),
        ({"genres": ["Drama"], "plot": [3]}, "'plot' is no list"),
        ({"genres": ["Drama"], "plot": {"a": 1}}, "'plot' is no list"),
    ],
)
def test_broken_films(tmp_path: Path, content: Any, message: str) -> None:
    film_files(tmp_path)
    write(tmp_path / "dataset" / "0000000.json", content)
    with pytest.raises(UserError, match=re.escape(message)):
        movies.build(tmp_path)


def test_too_few_genres(tmp_path: Path) -> None:
    write(tmp_path / "dataset" / "1.json", {"genres": ["Drama"], "plot": []})
    with pytest.raises(UserError, match="5 sessions of 4 need 20"):
        movies.build(tmp_path)


# ------------------------------------------------------------------------------------- glyphs and the catalog


def test_glyphs_in_five_sessions_of_five_scripts() -> None:
    table = open_source("glyphs-cmml")
    found = rows(table)
    scripts = [{row["script"] for row in found if row["session"] == number} for number in range(5)]
    assert scripts == [set(names) for names in glyphs_cmml.classes()] and set().union(*scripts) == set(FAMILIES)
    assert [len(names) for names in scripts] == [5] * 5
    parts = {(row["session"], row["split"]) for row in found}
    assert len(parts) == 15
    assert glyphs_cmml.classes()[0] == ["Tetragram", "Hebrew", "Domino tile", "Armenian", "Tifinagh"]


def test_a_fingerprint_forgets_order_and_copies_and_nothing_else() -> None:
    a, b = ("a", 0, "train", ["x", "y"]), ("b", 1, "test", "x")
    assert fingerprint([a, b]) == fingerprint([b, a, b, ("a", 0, "train", ["y", "x"])])
    others = [("c", 1, "test", "x"), ("b", 0, "test", "x"), ("b", 1, "val", "x"), ("b", 1, "test", "y")]
    assert len({fingerprint([a, other]) for other in [b, *others]}) == 5


def test_sessions_do_not_depend_on_the_order_of_classes() -> None:
    first = hash_sessions("abcdefgh", sessions=3, size=2, key="k")
    assert first == hash_sessions(reversed("abcdefghaa"), sessions=3, size=2, key="k")
    assert first != hash_sessions("abcdefgh", sessions=3, size=2, key="other")


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_each_entry_declares_its_columns(name: str) -> None:
    declared = declaration(f"{name}:anywhere")
    assert declared is not None
    assert [modality_from_flag(flag) for flag in declared["modality"]]
    assert "target" not in declared or target_from_flag(declared["target"])
    assert declaration(f"{name}/x") is None and declaration({"a": [1]}) is None


def test_folders_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no folder"):
        open_source("glyphs:folder")
    for name in ("food101-cmml", "mmimdb-cmml"):
        with pytest.raises(UserError, match=f"{name}:FOLDER"):
            open_source(name)
        with pytest.raises(UserError, match=f"{name}:FOLDER"):
            load(name)


# --------------------------------------------------------------------------------------- the command line


def test_a_known_table_needs_no_flags(dishes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.parquet"
    words = ["mask", f"food101-cmml:{dishes}", "--eta", "0.7", "--absent", "both", "--out", str(plan)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "image=image text=text" in said.replace("\n", " ") and "sha256" in said
    drawn = MaskPlan.load(plan)
    assert set(drawn.splits) == {"train", "val", "test"} and drawn.modalities == ("image", "text")
    assert abs((~drawn.keep).any(axis=1).mean() - 0.7) < 0.08 and not (~drawn.keep).all(axis=1).any()
    assert abs((~drawn.keep).mean(axis=0) - 0.35).max() < 0.08


def test_a_stream_of_paths_is_inspected(dishes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"food101-cmml:{dishes}", "--save", str(tmp_path / "schema.yaml")]) == 0
    said = capsys.readouterr().out
    assert "303/0/202" not in said and "rows by session" in said
    settings = yaml.safe_load((tmp_path / "schema.yaml").read_text())
    assert settings["target"] == "label=class" and settings["modality"]["image"]["kind"] == "image"


@pytest.mark.parametrize("lost", ["both", "any", "image", "text"])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_the_protocol_of_eta(ratio: float, lost: str, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "id,split,image,text\n" + "".join(f"{i},{['train', 'val', 'test'][i % 3]},{i},t{i}\n" for i in range(3000))
    )
    plan = tmp_path / "plan.parquet"
    declared = ["--modality", "image=tabular", "--modality", "text=text", "--id", "id", "--split", "split"]
    assert main(["mask", str(table), *declared, "--eta", str(ratio), "--absent", lost, "--out", str(plan)]) == 0
    hidden = ~MaskPlan.load(plan).keep
    wanted = {"image": [ratio, 0], "text": [0, ratio]}.get(lost, [ratio / 2, ratio / 2])
    assert np.abs(hidden.mean(axis=0) - wanted).max() < 0.04 and not hidden.all(axis=1).any()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--absent", "both"], "--eta RATIO"),
        (["--eta", "0.7", "--p-incomplete", "0"], "leave --p_incomplete out"),
        (["--eta", "0.7", "--p-absent", "image=0.1"], "leave --p_absent out"),
        (["--eta", "0.7", "--mechanism", "mar", "--depends-on", "label"], "leave --depends_on out"),
        (["--eta", "0.7", "--absent", "imge"], "did you mean 'image'"),
        (["--eta", "1.7"], "p_incomplete is 1.7"),
    ],
)
def test_mistakes_about_eta(
    flags: list[str], message: str, dishes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mask", f"food101-cmml:{dishes}", *flags, "--out", str(tmp_path / "plan.parquet")]) == 2
    assert message in capsys.readouterr().err
