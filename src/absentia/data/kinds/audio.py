"""Sounds: soundfile reads them, soxr brings them to one rate, a log-mel spectrogram is what models see."""

from __future__ import annotations

import importlib
import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Array, Kind, Value, check_at_least, shown, source_of
from absentia.data.kinds.series import SteppedDecoder, channel_moments
from absentia.errors import BadCell, UserError

__all__ = ["Audio", "AudioDecoder", "log_mel", "read_audio", "resampled"]

SAMPLE = 512  # training sounds that mean, spread and rate are taken from
WINDOW, HOP, LONGEST = 0.025, 0.010, 3600  # seconds
LOWEST, HIGHEST = 1_000, 1_000_000  # samples per second that a sound can have
UNREADABLE = (RuntimeError, OSError, ValueError, TypeError, MemoryError)  # of soundfile, for damaged sounds


@dataclass(frozen=True)
class Audio(Kind):
    """Sounds as bytes, paths, `{bytes, path}` or `{array, sampling_rate}` cells; several channels are averaged.

    rate: samples per second; None takes the most common one of the training sounds, at most 16,000.
    mels: bands of the spectrogram. max_seconds: what is kept of a longer sound.
    """

    rate: int | None = None
    mels: int = 64
    max_seconds: float = 10.0
    kind: ClassVar[str] = "audio"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("audio mels", self.mels)
        if self.rate is not None:
            check_at_least("audio rate", self.rate, LOWEST)
        if not isinstance(self.max_seconds, int | float) or not WINDOW <= self.max_seconds <= LONGEST:
            raise UserError(f"audio max_seconds {self.max_seconds!r}: must be a number from {WINDOW} to {LONGEST}")

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> AudioDecoder:
        sounds = list(itertools.islice(_readable(cells, root, self.max_seconds), SAMPLE))
        usual = Counter(rate for _, rate in sounds).most_common(1)
        rate = self.rate or min(16_000, usual[0][0] if usual else 16_000)
        spectra = [log_mel(resampled(s, r, rate), rate, self.mels) for s, r in sounds]
        moments = channel_moments(spectra or [np.zeros((1, self.mels))])
        return AudioDecoder(rate=rate, max_seconds=self.max_seconds, root=root, **moments)

    def restore(self, state: dict[str, Any], *, root: Path | None = None) -> AudioDecoder:
        return AudioDecoder(**state, root=root)


class AudioDecoder(SteppedDecoder):
    """Cells to standardised log-mel frames (T, mels), one every 10 ms."""

    def __init__(
        self,
        *,
        rate: int,
        max_seconds: float,
        mean: list[float],
        std: list[float],
        patch: int,
        root: Path | None = None,
    ) -> None:
        super().__init__(mean=mean, std=std, patch=patch)
        self.rate, self.max_seconds, self.root = rate, max_seconds, root

    def decode(self, cell: Any) -> Value:
        sound, rate = read_audio(cell, self.root, seconds=self.max_seconds)
        return self.standardised(log_mel(resampled(sound, rate, self.rate), self.rate, self.channels))

    def state(self) -> dict[str, Any]:
        return super().state() | {"rate": self.rate, "max_seconds": self.max_seconds}


def read_audio(cell: Any, root: Path | None, *, seconds: float) -> tuple[Array, int]:
    """The first `seconds` as samples float32 (T,), mono, with their rate in Hz; raises `BadCell`."""
    if isinstance(cell, dict) and cell.get("array") is not None:
        sound, rate = _given(cell)
    else:
        sound, rate = _opened(source_of(cell, root), seconds)
    sound = sound[: int(seconds * rate)]
    if sound.size == 0:
        raise BadCell("is a sound without samples")
    if not np.isfinite(sound).all():
        raise BadCell("is a sound with NaN or infinite samples")
    return sound, rate


def _opened(source: bytes | Path, seconds: float) -> tuple[Array, int]:
    """No more is read than asked for, whatever length the header promises."""
    soundfile = _library("soundfile")
    try:
        with soundfile.SoundFile(_Bytes(source) if isinstance(source, bytes) else str(source)) as file:
            rate = _rate(file.samplerate)
            samples = file.read(frames=int(seconds * rate), dtype="float32", always_2d=True)
    except UNREADABLE as error:
        reason = getattr(error, "error_string", error)  # without the address of a Python object
        raise BadCell(f"is not a sound that can be read: {reason}") from None
    return _mono(samples, axis=1), rate


def _given(cell: dict[str, Any]) -> tuple[Array, int]:
    try:
        samples = np.asarray(cell["array"], dtype=np.float32)
    except UNREADABLE:
        raise BadCell("holds an array that is not one of numbers") from None
    if samples.ndim == 2:
        return _mono(samples, axis=int(np.argmin(samples.shape))), _rate(cell.get("sampling_rate"))
    if samples.ndim != 1:
        raise BadCell(f"holds an array of shape {samples.shape}, expected samples, or channels x samples")
    return samples, _rate(cell.get("sampling_rate"))


def _rate(rate: Any) -> int:
    if not isinstance(rate, int | float) or not LOWEST <= rate <= HIGHEST:
        raise BadCell(f"has a sampling rate of {shown(rate)}; a sound has {LOWEST:,} to {HIGHEST:,} (is it a series?)")
    return int(rate)


def _mono(samples: Array, axis: int) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(samples.mean(axis=axis))


class _Bytes(io.BytesIO):
    """A file in memory that lets a damaged sound point before its start, as the C library prints what is raised."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def log_mel(sound: Array, rate: int, mels: int) -> Array:
    """Natural logarithm of mel energies, float32 (T, mels): Hann windows of 25 ms every 10 ms."""
    window, hop = int(WINDOW * rate), int(HOP * rate)
    padded = np.pad(sound, (0, max(0, window - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    size = 1 << (window - 1).bit_length()
    power = np.abs(np.fft.rfft(frames * np.hanning(window), n=size)) ** 2
    return np.log(power @ _filters(rate, size, mels) + 1e-8).astype(np.float32)


@lru_cache(maxsize=8)
def _filters(rate: int, size: int, mels: int) -> Array:
    """Triangles with even distances on the mel scale, from 0 Hz to half the rate: (size / 2 + 1, mels)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(size, 1 / rate)[:, None]
    rising = (bins - edges[:-2]) / np.maximum(edges[1:-1] - edges[:-2], 1e-9)
    falling = (edges[2:] - bins) / np.maximum(edges[2:] - edges[1:-1], 1e-9)
    return np.maximum(0, np.minimum(rising, falling))


def resampled(sound: Array, rate: int, wanted: int) -> Array:
    """The sound (T,) at another rate."""
    return sound if rate == wanted else np.asarray(_library("soxr").resample(sound, rate, wanted))


def _readable(cells: Iterable[Any], root: Path | None, seconds: float) -> Iterator[tuple[Array, int]]:
    for cell in cells:
        try:
            yield read_audio(cell, root, seconds=seconds)
        except BadCell:
            continue


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # OSError: the package is there, its C library is not
        raise UserError(f"sounds need {name}: pip install 'absentia[audio]'") from None
