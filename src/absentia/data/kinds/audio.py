"""Sounds: soundfile reads them, soxr brings them to one rate, a log-mel spectrogram is what models see."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from absentia.data.kinds.base import Array, Kind, Value, source_of
from absentia.data.kinds.series import SteppedDecoder, channel_moments
from absentia.errors import BadCell, UserError

__all__ = ["Audio", "AudioDecoder", "log_mel", "read_audio", "resampled"]

SAMPLE = 512  # training sounds that mean, spread and rate are taken from
WINDOW, HOP = 0.025, 0.010  # seconds


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

    def fit(self, cells: Iterable[Any], *, root: Path | None = None) -> AudioDecoder:
        sounds = list(itertools.islice(_readable(cells, root), SAMPLE))
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
        sound, rate = read_audio(cell, self.root)
        sound = resampled(sound[: int(self.max_seconds * rate)], rate, self.rate)
        return self.standardised(log_mel(sound, self.rate, self.channels))

    def state(self) -> dict[str, Any]:
        return super().state() | {"rate": self.rate, "max_seconds": self.max_seconds}


def read_audio(cell: Any, root: Path | None) -> tuple[Array, int]:
    """Samples float32 (T,) in [-1, 1], mono, and their rate in Hz; raises `BadCell`."""
    if isinstance(cell, dict) and cell.get("array") is not None:
        return _checked(np.asarray(cell["array"], dtype=np.float32), int(cell["sampling_rate"]))
    soundfile = _library("soundfile")
    source = source_of(cell, root)
    try:
        sound, rate = soundfile.read(
            io.BytesIO(source) if isinstance(source, bytes) else str(source), dtype="float32", always_2d=True
        )
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise BadCell(f"is not a sound that can be read: {error}") from None
    return _checked(sound.mean(axis=1), int(rate))


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


def _checked(sound: Array, rate: int) -> tuple[Array, int]:
    if sound.size == 0:
        raise BadCell("is a sound without samples")
    if not np.isfinite(sound).all():
        raise BadCell("is a sound with NaN or infinite samples")
    return sound, rate


def resampled(sound: Array, rate: int, wanted: int) -> Array:
    """The sound (T,) at another rate."""
    return sound if rate == wanted else np.asarray(_library("soxr").resample(sound, rate, wanted))


def _readable(cells: Iterable[Any], root: Path | None) -> Iterator[tuple[Array, int]]:
    for cell in cells:
        try:
            yield read_audio(cell, root)
        except BadCell:
            continue


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"sounds need {name}: pip install 'absentia[audio]'") from None
