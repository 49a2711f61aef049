"""Sounds of any format, rate and number of channels become log-mel frames; the libraries are an extra."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from absentia.data.kinds import Audio
from absentia.data.kinds.audio import log_mel, read_audio, resampled
from absentia.errors import BadCell, UserError

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 8000


def tone(hertz: float = 440.0, seconds: float = 0.5, rate: int = RATE) -> Any:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(sound: Any, form: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, sound, rate, format=form, subtype=subtype)
    return out.getvalue()


def read(cell: Any, root: Path | None = None, seconds: float = 10.0) -> tuple[Any, int]:
    return read_audio(cell, root, seconds=seconds)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF", "OGG", "MP3"])
def test_formats(form: str, tmp_path: Path) -> None:
    content = encoded(tone(), form)
    (tmp_path / f"a.{form.lower()}").write_bytes(content)
    sound, rate = read(content)
    assert rate == RATE and sound.dtype == np.float32 and abs(len(sound) - 4000) < 1200
    assert 0.3 < np.abs(sound[500:2500]).max() < 0.7
    for cell in (f"a.{form.lower()}", {"bytes": None, "path": f"a.{form.lower()}"}, {"bytes": content, "path": None}):
        assert (read(cell, tmp_path)[0] == sound).all()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_depths(subtype: str) -> None:
    np.testing.assert_allclose(read(encoded(tone(), subtype=subtype))[0], tone(), atol=0.01)


def test_channels_are_averaged() -> None:
    both = np.stack([tone(), -0.5 * tone()], axis=1)
    np.testing.assert_allclose(read(encoded(both))[0], 0.25 * tone(), atol=1e-3)
    for array in (both, both.T):
        np.testing.assert_allclose(read({"array": array.tolist(), "sampling_rate": RATE})[0], 0.25 * tone(), atol=1e-6)


def test_decoded_cells() -> None:
    sound, rate = read({"path": "a.wav", "array": tone(), "sampling_rate": 8000.0})
    assert rate == RATE and (sound == tone()).all()


@pytest.mark.parametrize(("rate", "wanted"), [(8000, 16000), (44100, 16000), (48000, 8000), (11025, 8000)])
def test_resampling_keeps_the_tone(rate: int, wanted: int) -> None:
    out = resampled(tone(rate=rate), rate, wanted)
    assert out.dtype == np.float32 and abs(len(out) - wanted // 2) <= 1
    loudest = np.argmax(np.abs(np.fft.rfft(out))) * wanted / len(out)
    assert abs(loudest - 440) < 3


def test_the_rate_is_the_usual_one_of_training_and_at_most_sixteen_thousand() -> None:
    sounds = [encoded(tone(rate=r), rate=r) for r in (8000, 8000, 44100)]
    assert Audio().fit(sounds).rate == 8000
    assert Audio().fit(sounds[2:]).rate == 16000
    assert Audio(rate=22050).fit(sounds).rate == 22050
    assert Audio().fit([]).rate == 16000


def test_one_sound_at_any_rate_looks_the_same() -> None:
    rates = (16000, 8000, 44100)
    frames = [log_mel(resampled(tone(rate=r, seconds=1.0), r, 8000), 8000, 16) for r in rates]
    for other in frames[1:]:
        assert abs(len(other) - len(frames[0])) <= 1
        np.testing.assert_allclose(np.exp(other[5:90]), np.exp(frames[0][5:90]), rtol=1e-3, atol=1e-2)


def test_frames_are_ten_milliseconds_and_show_the_pitch() -> None:
    low, high = (log_mel(tone(f, 1.0), RATE, 32) for f in (300, 2000))
    assert low.shape == high.shape == (98, 32) and low.dtype == np.float32
    assert np.argmax(low.mean(axis=0)) < np.argmax(high.mean(axis=0))
    assert np.isfinite(log_mel(np.zeros(0), RATE, 8)).all() and log_mel(np.ones(3), RATE, 8).shape == (1, 8)


@pytest.mark.parametrize("rate", [1000, 8000, 16000, 44100, 192000, 1_000_000])
@pytest.mark.parametrize("length", [1, 7, 300])
def test_short_sounds_and_odd_rates(rate: int, length: int) -> None:
    cell = encoded(0.1 * np.ones(length, dtype=np.float32), rate=rate)
    for decoder in (Audio(mels=80).fit([cell]), Audio(rate=16000).fit([encoded(tone())])):
        steps = decoder.decode(cell)["steps"]
        assert steps.shape[0] >= 1 and np.isfinite(steps).all()


def test_long_sounds_are_cut() -> None:
    decoder = Audio(max_seconds=0.5).fit([encoded(tone(seconds=3.0))])
    assert decoder.decode(encoded(tone(seconds=3.0)))["steps"].shape[0] == 48
    assert decoder.patch == 2  # tokens follow what is kept


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (b"", "zero bytes"),
        (b"garbage" * 50, "is not a sound that can be read: Format not recognised"),
        (encoded(tone(), "FLAC")[:1500], "is not a sound that can be read"),
        (encoded(tone(), "OGG")[:200], "is not a sound that can be read|without samples"),
        (encoded(tone()[:0]), "without samples"),
        (encoded(tone(), rate=50), "has a sampling rate of 50; a sound has 1,000 to 1,000,000"),
        (encoded(np.full(9, np.nan), subtype="FLOAT"), "NaN or infinite samples"),
        ("gone.wav", "gone.wav does not exist"),
        ({"array": [], "sampling_rate": RATE}, "without samples"),
        ({"array": [None], "sampling_rate": RATE}, "NaN or infinite samples"),
        ({"array": ["a"], "sampling_rate": RATE}, "not one of numbers"),
        ({"array": [[1.0], [1.0, 2.0]], "sampling_rate": RATE}, "not one of numbers"),
        ({"array": [[[1.0]]], "sampling_rate": RATE}, r"shape \(1, 1, 1\)"),
        ({"array": 1.0, "sampling_rate": RATE}, r"shape \(\)"),
        ({"array": [1.0]}, "sampling rate of None"),
        ({"array": [1.0], "sampling_rate": 0}, "sampling rate of 0"),
        ({"array": [1.0], "sampling_rate": "fast"}, "sampling rate of 'fast'"),
        ({"array": [1.0], "sampling_rate": float("nan")}, "sampling rate of nan"),
        ({"array": None, "sampling_rate": RATE}, "holds NoneType"),
        ([0.1, 0.2], "holds list, expected bytes or a path"),
        (3, "holds int"),
    ],
)
def test_bad_cells(cell: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadCell, match=reason) as caught:
        Audio().fit([], root=tmp_path).decode(cell)
    assert "0x" not in str(caught.value)  # no addresses: the same table gives the same report


def test_a_header_that_promises_hours_is_not_believed() -> None:
    content = bytearray(encoded(tone(), "FLAC"))
    promise = int.from_bytes(content[18:26], "big") | (2**36 - 1)
    content[18:26] = promise.to_bytes(8, "big")
    start = time.monotonic()
    with contextlib.suppress(BadCell):
        assert len(read(bytes(content))[0]) <= 4000
    assert time.monotonic() - start < 0.5


SEEDS = [encoded(tone(seconds=0.1), form) for form in ("WAV", "FLAC", "OGG", "AIFF")]


@settings(max_examples=200)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    st.integers(1, 3000),
)
def test_damaged_sounds_are_bad_cells_or_sounds(seed: bytes, changes: list[tuple[int, int]], end: int) -> None:
    content = bytearray(seed)
    for place, value in changes:
        content[place % len(content)] = value
    try:
        sound, rate = read(bytes(content[:end]))
        assert np.isfinite(sound).all() and 1000 <= rate <= 1_000_000
    except BadCell as error:
        assert str(error)


def test_a_path_that_is_no_sound(tmp_path: Path) -> None:
    for name in ("a.raw", "a.wav", "a.txt"):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(BadCell, match="is not a sound that can be read"):
            read(name, tmp_path)


def test_bad_training_sounds_are_passed_over() -> None:
    good = [encoded(tone(f)) for f in (300, 900)]
    assert Audio().fit([b"garbage", *good, "gone.wav"]).state() == Audio().fit(good).state()


def test_a_restored_decoder_is_the_same() -> None:
    cells = [encoded(tone(f)) for f in (300, 900, 2000)]
    decoder = Audio(max_seconds=0.3).fit(cells)
    again = Audio().restore(json.loads(json.dumps(decoder.state())))
    assert again.decode(cells[0])["steps"].tobytes() == decoder.decode(cells[0])["steps"].tobytes()
    assert again.state() == decoder.state()


def test_a_batch_and_a_blank() -> None:
    decoder = Audio(mels=16).fit([encoded(tone())])
    values = [decoder.decode(encoded(tone(seconds=s))) for s in (0.1, 0.3)] + [decoder.blank()]
    batch = decoder.collate(values)
    assert batch["steps"].shape == (3, 28, 16) and batch["mask"].sum(axis=1).tolist() == [8, 28, decoder.patch]


@pytest.mark.parametrize("missing", ["soundfile", "soxr"])
def test_a_missing_library_is_named_with_its_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Audio().fit([encoded(tone())])
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=rf"sounds need {missing}: pip install 'absentia\[audio\]'"):
        decoder.decode(encoded(tone(rate=16000), rate=16000))
    with pytest.raises(UserError, match=missing):
        Audio(rate=16000).fit([encoded(tone())])


def test_a_missing_c_library_is_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("sndfile library not found")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(UserError, match="sounds need soundfile"):
        read(encoded(tone()))


def test_sounds_at_the_right_rate_need_no_resampler(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = encoded(tone())
    monkeypatch.setitem(sys.modules, "soxr", None)
    assert Audio().fit([cell]).decode(cell)["steps"].shape[1] == 64
