"""`mmimdb-cmml:FOLDER`: MM-IMDb in five sessions of four genres, a film's poster and its plot.

The data set (Arevalo et al. 2017) is the user's own copy: dataset/ID.json and dataset/ID.jpeg, or labels/ID.json
and images/ID.jpeg, with split.json beside them. Where the folder has the annotation file of the benchmark (Zhao
et al. 2024), that file decides. Else:

* the 20 genres that most training films have, of the 23 known ones, are dealt out to the sessions by hash;
* a film stands in one session, that of its rarest genre (the one that fewest training films have), so that
  drama, which half of all films are, leaves the others their rows;
* of its genres it keeps those of its session. `FOLDER:seen` keeps those of earlier sessions too, `FOLDER:all` all.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from absentia.data.catalog.cmml import (
    SPLITS,
    Benchmark,
    Sample,
    hash_sessions,
    hash_validation,
    listed,
    read_json,
    read_splits,
    slashed,
)
from absentia.data.catalog.cmml_json import annotated
from absentia.data.entity import entity_uniform
from absentia.data.table import Table
from absentia.errors import UserError, nearest

__all__ = ["DECLARATION", "EXPECTED", "GENRES", "build", "film_files", "films_of", "open_folder"]

NAME = "mmimdb-cmml"
FILE = "MM-IMDB-CMML.json"
SESSIONS, SIZE = 5, 4
EXPECTED = {"train": 15_552, "val": 2_608, "test": 7_799}
VALIDATION, TEST = 0.1, 0.3  # shares where split.json does not say
KEPT = ("session", "seen", "all")
LAYOUTS = (("dataset", "dataset"), ("labels", "images"))  # of the JSON files, of the posters

GENRES = (
    *("Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama", "Family"),
    *("Fantasy", "Film-Noir", "History", "Horror", "Music", "Musical", "Mystery", "Romance", "Sci-Fi"),
    *("Short", "Sport", "Thriller", "War", "Western"),
)

DECLARATION: dict[str, Any] = {
    "modality": ["image=image", "text=text"],
    "target": "labels=labels",
    "id": "id",
    "split": "split",
    "session": "session",
}


class Film(NamedTuple):
    """What is used of a film; the genres are known ones."""

    id: str
    split: str
    text: str | None
    genres: list[str]


def open_folder(where: str) -> Table:
    """The table of the data in a folder, given as FOLDER, or FOLDER:session|seen|all for the labels that rows keep."""
    folder, _, keep = where.rpartition(":")
    return (build(folder, keep=keep) if keep in KEPT and folder else build(where)).table()


def build(folder: str | Path, *, keep: str | None = None, seed: int = 0) -> Benchmark:
    """The benchmark from a folder, the same on every machine; no poster is opened.

    keep: which of its labels a row keeps: those of its "session", those "seen" by then, or "all". By default an
        annotation file is used as it is ("all"), and what is built here has those of the session.
    seed: of the order of the genres; it changes nothing where the annotation file decides.
    Raises `UserError` for a folder that does not hold the data, and for broken files.
    """
    folder = Path(folder).expanduser()
    if keep is not None and keep not in KEPT:
        raise UserError(f"{NAME}: rows cannot keep {keep!r} of their labels; {nearest(keep, KEPT)}")
    if (folder / FILE).is_file():
        whole = annotated(folder / FILE, name=NAME, target="labels", sessions=SESSIONS, size=SIZE, several=True)
        return _keeping(whole, keep or "all")
    labels, posters = film_files(folder)
    films, remarks = films_of(folder, labels)
    frequent = Counter(genre for film in films if film.split == "train" for genre in film.genres)
    chosen = sorted(frequent, key=lambda genre: (-frequent[genre], genre))[: SESSIONS * SIZE]
    classes = hash_sessions(chosen, sessions=SESSIONS, size=SIZE, key=NAME, seed=seed)
    samples = _samples(films, posters, classes, frequent)
    remarks = ["sessions by hash, a film in that of its rarest genre", *remarks, *_on_genres(films, chosen, samples)]
    return _keeping(Benchmark(NAME, folder, "labels", classes, samples, remarks), keep or "session")


def film_files(folder: Path) -> tuple[str, str]:
    """The folders of the JSON files and of the posters, below the data's own."""
    for labels, posters in LAYOUTS:
        if (folder / labels).is_dir():
            return labels, posters
    raise UserError(
        f"{NAME}: there is neither {folder / FILE} nor {folder / 'dataset'} nor {folder / 'labels'}; "
        f"is {folder} the folder of the data?"
    )


def films_of(folder: Path, labels: str) -> tuple[list[Film], list[str]]:
    """All films with their splits, and remarks."""
    there = sorted(path.stem for path in (folder / labels).glob("*.json"))
    if not there:
        raise UserError(f"{NAME}: {folder / labels} holds no ID.json")
    split, remarks = _splits(folder / "split.json", there)
    having = set(there)
    films = [_film(folder / labels / f"{name}.json", name, word) for name, word in split.items() if name in having]
    lacking = [name for name in split if name not in having]
    if lacking:
        remarks.append(f"{len(lacking):,} films of split.json have no JSON file and were left out: {listed(lacking)}")
    found = Counter(film.split for film in films)
    if {word: found[word] for word in SPLITS} != EXPECTED:
        remarks.append(f"in all genres there are {slashed(found)} rows, where {slashed(EXPECTED)} were expected")
    return films, remarks


def _film(path: Path, name: str, split: str) -> Film:
    content = read_json(path)
    genres = content.get("genres") if isinstance(content, Mapping) else None
    if not isinstance(genres, list) or not all(isinstance(genre, str) for genre in genres):
        raise UserError(f"{path}: expected an object with 'genres', a list of words")
    plots = content.get("plot") or []
    plots = [plots] if isinstance(plots, str) else plots
    if not isinstance(plots, list) or not all(isinstance(plot, str) for plot in plots):
        raise UserError(f"{path}: 'plot' is no list of texts")
    return Film(name, split, ". ".join(plots) or None, [genre for genre in GENRES if genre in genres])


def _splits(path: Path, there: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The split of each film, those of split.json or by hash, and how it was found."""
    if not path.is_file():
        place = dict(zip(there, entity_uniform(there, NAME, "test"), strict=True))
        split, how = {name: "test" if u < TEST else "train" for name, u in place.items()}, "there is no split.json"
    else:
        split, how = read_splits(path), f"{path.name} names no validation films"
    if "val" in split.values():
        return split, [f"splits of {path.name}"]
    train = [name for name, word in split.items() if word == "train"]
    chosen = hash_validation(train, NAME, VALIDATION / (1 - TEST))
    return split | {n: "val" for n, val in zip(train, chosen, strict=True) if val}, [f"{how}: they were taken by hash"]


def _samples(
    films: Sequence[Film], posters: str, classes: Sequence[Sequence[str]], frequent: Mapping[str, int]
) -> list[Sample]:
    """Films in the session of their rarest genre, with all their genres that are in any session."""
    session_of = {genre: session for session, genres in enumerate(classes) for genre in genres}
    samples = []
    for film in films:
        genres = [genre for genre in film.genres if genre in session_of]
        if genres:
            rarest = min(genres, key=lambda genre: (frequent[genre], genre))
            image = f"{film.id}.jpeg"
            samples.append(Sample(image, session_of[rarest], film.split, f"{posters}/{image}", film.text, genres))
    return samples


def _on_genres(films: Sequence[Film], chosen: Sequence[str], samples: Sequence[Sample]) -> list[str]:
    out = sorted({genre for film in films for genre in film.genres} - set(chosen))
    remarks = [f"genres left out: {', '.join(out)}"] if out else []
    if len(samples) < len(films):
        remarks.append(f"{len(films) - len(samples):,} films have none of the genres and were left out")
    return remarks


def _keeping(whole: Benchmark, keep: str) -> Benchmark:
    """The benchmark with the labels that its rows are to keep."""
    if keep == "all":
        return whole
    known = [set(labels) for labels in whole.classes]
    if keep == "seen":
        known = list(accumulate(known, operator.or_))
    samples = [s._replace(label=[label for label in s.label if label in known[s.session]]) for s in whole.samples]
    words = "of their session" if keep == "session" else "of their session and earlier ones"
    return replace(whole, samples=samples, remarks=[*whole.remarks, f"rows keep the labels {words}"])
