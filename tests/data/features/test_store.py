"""Features on disk: what was kept comes back bit by bit, and whatever happens to the files costs time, not truth."""

from __future__ import annotations

import copy
import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.writers import (
    LONG,
    Features,
    feature,
    key,
    run_apart,
    start,
    write_and_die,
    write_many,
    write_until_full,
)

from absentia.data.catalog.cache import default_folder
from absentia.data.features import FeatureStore, features_folder
from absentia.data.features.records import START, packed


def kept(folder: Path, count: int = 6) -> FeatureStore:
    store = FeatureStore(folder, {"encoder": "one"})
    for number in range(count):
        store.keep(key(number), feature(number))
    return store


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.features"))


def same(found: Features | None, number: int) -> bool:
    wanted = feature(number)
    return found is not None and found.dtype == wanted.dtype and np.array_equal(found, wanted)


def known(folder: Path, count: int = 6) -> list[int]:
    """Which of the numbers a fresh look finds; whatever it finds is right."""
    store = FeatureStore(folder, {})
    found = {number: store.recall(key(number)) for number in range(count)}
    assert all(same(value, number) for number, value in found.items() if value is not None)
    return [number for number, value in found.items() if value is not None]


def test_what_was_kept_comes_back_bit_by_bit(tmp_path: Path) -> None:
    store = kept(tmp_path / "a")
    assert all(same(store.recall(key(number)), number) for number in range(6))
    assert known(tmp_path / "a", 8) == [0, 1, 2, 3, 4, 5]
    assert (tmp_path / "a" / "about.json").read_text() == '{\n "encoder": "one"\n}\n'
    assert store.notes == []


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_every_bit_of_strange_numbers(tmp_path: Path, dtype: str) -> None:
    strange = np.asarray([[np.nan, -np.nan, np.inf, -0.0, 1e-45], [1, 2, 3, 4, 5]]).astype(dtype)
    FeatureStore(tmp_path, {}).keep(key(1), strange)
    found = FeatureStore(tmp_path, {}).recall(key(1))
    assert found is not None and found.tobytes() == strange.tobytes() and found.dtype == strange.dtype
    assert not found.flags.writeable  # it is the file itself


def test_features_without_a_token(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, {})
    store.keep(key(8), np.zeros((0, 7), np.float32))
    store.keep(key(2), feature(2))
    found = FeatureStore(tmp_path, {}).recall(key(8))
    assert found is not None and found.shape == (0, 7)
    assert known(tmp_path) == [2]


@pytest.mark.parametrize("features", [np.zeros(3, np.float32), np.zeros((1, 3), object), np.zeros((1, 3), ">f4")])
def test_what_has_no_place_in_a_record(features: Features) -> None:
    with pytest.raises(ValueError, match="features are of"):
        packed(key(0), features, 0)


def test_nothing_is_written_for_a_look(tmp_path: Path) -> None:
    assert FeatureStore(tmp_path / "a", {}).recall(key(1)) is None
    assert not (tmp_path / "a").exists()


def test_the_same_cell_twice_is_kept_once(tmp_path: Path) -> None:
    store = kept(tmp_path, 1)
    size = files(tmp_path)[0].stat().st_size
    store.keep(key(0), feature(0))
    assert files(tmp_path)[0].stat().st_size == size


def test_a_later_process_writes_on_in_the_same_file(tmp_path: Path) -> None:
    for number in range(4):
        run_apart(write_many, tmp_path, range(number, number + 1))
    assert known(tmp_path) == [0, 1, 2, 3] and len(files(tmp_path)) == 1


def test_copies_of_a_store_look_anew(tmp_path: Path) -> None:
    store = kept(tmp_path)
    other = copy.deepcopy(store)
    assert same(other.recall(key(3)), 3)
    other.keep(key(9), feature(9))
    assert len(files(tmp_path)) == 2, "the first one holds its file"


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both write the same and more, at the same time."""
    both = [start(write_many, tmp_path, range(0, 300)), start(write_many, tmp_path, range(150, 450))]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert known(tmp_path, 460) == list(range(450))
    assert FeatureStore(tmp_path, {}).notes == []


def test_a_forked_child_has_a_file_of_its_own(tmp_path: Path) -> None:
    store = kept(tmp_path, 2)
    child = os.fork()
    if not child:
        store.keep(key(2), feature(2))
        os._exit(0 if same(store.recall(key(2)), 2) else 1)
    assert os.waitpid(child, 0)[1] == 0
    store.keep(key(3), feature(3))
    assert known(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("part", [0, 1, 8, 100, START - 1, START, START + 1, START + 60, START + 79])
def test_killed_at_any_byte(tmp_path: Path, part: int) -> None:
    run_apart(write_and_die, tmp_path, 3, part, expect=-signal.SIGKILL)
    assert known(tmp_path) == [0, 1, 2]
    assert kept(tmp_path).notes == [], "a torn end is nobody's fault"
    assert known(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_torn_at_every_byte(tmp_path: Path) -> None:
    store = kept(tmp_path, 3)
    path, content = files(tmp_path)[0], files(tmp_path)[0].read_bytes()
    del store
    ends = [len(packed(key(n), feature(n), 0)[0]) for n in range(3)]
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        whole = known(tmp_path, 3)
        assert whole == list(range(len(whole))) and len(whole) >= sum(sum(ends[: n + 1]) <= size for n in range(3))


@given(st.data())
def test_a_flipped_bit_is_never_believed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    content = bytearray(b"".join(packed(key(n), feature(n), 0)[0] for n in range(6)))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "a.features").write_bytes(content)
    assert len(known(folder)) >= 5, "the others are still there"


def test_a_damaged_feature_is_computed_again_with_a_note(tmp_path: Path) -> None:
    kept(tmp_path)
    path = files(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[START + 3] ^= 16
    path.write_bytes(content)
    store = FeatureStore(tmp_path, {})
    assert store.recall(key(0)) is None and same(store.recall(key(1)), 1)
    assert len(store.notes) == 1 and "1 features" in store.notes[0] and "damaged" in store.notes[0]
    store.keep(key(0), feature(0))
    assert known(tmp_path) == [0, 1, 2, 3, 4, 5]
    again = FeatureStore(tmp_path, {})
    assert same(again.recall(key(0)), 0) and again.notes == []


@pytest.mark.parametrize("content", [b"", b"noise", bytes(1000), np.random.default_rng(0).bytes(5000)])
def test_files_of_something_else(tmp_path: Path, content: bytes) -> None:
    kept(tmp_path)
    (tmp_path / "0.features").write_bytes(content)
    assert known(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    kept(tmp_path)
    (tmp_path / "0.features").mkdir()
    store = FeatureStore(tmp_path, {})
    assert same(store.recall(key(2)), 2)
    assert "cannot be read (Is a directory)" in store.notes[0]


def test_a_full_disk_ends_the_writing_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real, calls = FeatureStore(tmp_path, {}), os.write, [0]

    def full(file: int, content: bytes) -> int:
        calls[0] += 1
        if calls[0] == 3:
            return real(file, content[:50])  # the last bytes that fit
        if calls[0] > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, content)

    monkeypatch.setattr(os, "write", full)
    for number in range(6):
        store.keep(key(number), feature(number))
    assert calls[0] == 4, "one failure is enough"
    assert len(store.notes) == 1 and "No space left on device" in store.notes[0] and store.stuck
    assert same(store.recall(key(1)), 1) and store.recall(key(2)) is None
    monkeypatch.undo()
    assert known(tmp_path) == [0, 1]
    assert kept(tmp_path).notes == [] and known(tmp_path) == [0, 1, 2, 3, 4, 5]


def test_a_limit_of_the_system_in_the_middle_of_a_record(tmp_path: Path) -> None:
    run_apart(write_until_full, tmp_path)
    found = FeatureStore(tmp_path, {})
    np.testing.assert_array_equal(found.recall(key(0)), feature(0, LONG))
    assert found.notes == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = kept(tmp_path / "file" / "a")
    assert len(store.notes) == 2 and all("Not a directory" in note for note in store.notes)
    assert store.recall(key(0)) is None


def test_a_folder_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path, 3)
    real = os.open

    def refused(path: Path, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_WRONLY:  # tests may run as root, whom no permission stops
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refused)
    store = kept(tmp_path, 6)
    assert [same(store.recall(key(n)), n) for n in range(6)] == [True, True, True, False, False, False]
    assert len(store.notes) == 1 and "Read-only file system" in store.notes[0]


def test_where_features_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENTIA_CACHE", raising=False)
    monkeypatch.setenv("HF_DATASETS_CACHE", "/data/sets")
    assert features_folder() == Path("/data/sets/absentia/features")
    monkeypatch.delenv("HF_DATASETS_CACHE")
    assert features_folder() == Path.home() / ".cache/absentia/features"
    monkeypatch.setenv("ABSENTIA_CACHE", "/data/own")
    assert features_folder() == Path("/data/own/features") and default_folder() == Path("/data/own")
