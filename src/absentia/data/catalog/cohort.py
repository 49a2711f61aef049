"""`cohort`: people who do not exist, in four contrasts, with a lesion that no contrast shows all of.

Made by a formula: a warped head with fluid, grey and white matter, and one to three lesions of a core, a rim and a
swelling around them. As in magnetic resonance, a contrast is a table of brightnesses by tissue, blurred, unevenly lit
and noisy: the swelling is bright in FLAIR and looks like fluid in T2, the rim is bright in T1ce and hardly seen
elsewhere, and T1 shows the anatomy. So every subset of contrasts answers something, and contrasts are in part told by
others. The regions are those of BraTS: whole (all three), core (core and rim) and enhancing (rim).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from absentia.data.catalog.cache import cached_table
from absentia.errors import UserError

__all__ = ["CONTRASTS", "DECLARATION", "SPLITS", "build", "subject"]

VERSION = 1  # of what this file makes; a change of a cell is a new version
SPLITS = {"train": 96, "val": 24, "test": 40}
CONTRASTS = ("flair", "t1", "t1ce", "t2")
NOTHING, FLUID, GREY, WHITE, CORE, SWELLING, RIM = range(7)
# Brightness by tissue, in the order above.
BRIGHTNESS = {
    "flair": (0.0, 0.20, 0.55, 0.45, 0.60, 0.90, 0.65),
    "t1": (0.0, 0.20, 0.50, 0.70, 0.38, 0.45, 0.48),
    "t1ce": (0.0, 0.20, 0.52, 0.70, 0.35, 0.46, 1.20),
    "t2": (0.0, 0.90, 0.60, 0.40, 0.85, 0.78, 0.70),
}
LABELS = {CORE: 1, SWELLING: 2, RIM: 4}
NOISE, LIGHT = 0.06, 0.2  # deviations of a voxel, and of the slow field that scales it

DECLARATION: dict[str, Any] = {
    "modality": [f"{name}=volume" for name in CONTRASTS],
    "target": "lesion=mask",
    "masks": {"regions": {"whole": [1, 2, 4], "core": [1, 4], "enhancing": [4]}},
    "id": "id",
    "split": "split",
}
Array = npt.NDArray[np.float32]


def build(*, dims: int = 2, side: int | None = None, seed: int = 0, cache: Path | None = None) -> datasets.Dataset:
    """160 subjects; planes of 48 x 48 or, with `dims` 3, volumes of 24 x 24 x 24 (another `side` if that is given).

    Columns: `id`, `split` (96 train, 24 val, 40 test), the four contrasts and `lesion` as nested lists, labels 1 core,
    2 swelling and 4 rim. Another `seed` gives other people.
    """
    if dims not in (2, 3):
        raise UserError(f"cohort: dims {dims}; planes have 2 and volumes 3")
    side = side or {2: 48, 3: 24}[dims]
    if side < 16:
        raise UserError(f"cohort: side {side}; a head needs at least 16 voxels")

    def make() -> pa.Table:
        names = [split for split, count in SPLITS.items() for _ in range(count)]
        rows = [_row(number, split, dims, side, seed) for number, split in enumerate(names)]
        return pa.Table.from_pylist(rows, schema=_columns(dims))

    return datasets.Dataset(cached_table(f"cohort-{VERSION}-{dims}-{side}-{seed}", make, folder=cache))


def subject(number: int, *, dims: int = 2, side: int = 48, seed: int = 0) -> tuple[dict[str, Array], Array]:
    """The contrasts of one person by name, and the label map, each (side,) * dims."""
    rng = np.random.default_rng([VERSION, seed, number])
    tissue = _tissue((side,) * dims, rng)
    labels = np.zeros(tissue.shape, dtype=np.float32)
    for kind, label in LABELS.items():
        labels[tissue == kind] = label
    return {name: _picture(tissue, name, rng) for name in CONTRASTS}, labels


def _row(number: int, split: str, dims: int, side: int, seed: int) -> dict[str, Any]:
    pictures, labels = subject(number, dims=dims, side=side, seed=seed)
    key = hashlib.sha256(f"cohort {seed} {number}".encode()).hexdigest()[:8]
    cells = {name: picture.tolist() for name, picture in pictures.items()}
    return {"id": f"person-{key}", "split": split} | cells | {"lesion": labels.astype(np.int8).tolist()}


def _columns(dims: int) -> pa.Schema:
    voxels, labels = pa.float32(), pa.int8()
    for _ in range(dims):
        voxels, labels = pa.list_(voxels), pa.list_(labels)
    columns = {"id": pa.string(), "split": pa.string()} | dict.fromkeys(CONTRASTS, voxels)
    return pa.schema(columns | {"lesion": labels})


def _tissue(space: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The kind of each voxel: shells of a warped ball, fluid in the middle, and lesions within the white and grey."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in space], indexing="ij"))
    warped = grid + 0.12 * np.stack([_smooth(space, rng, 3) for _ in space])
    radius = np.sqrt(sum((x / a) ** 2 for x, a in zip(warped, rng.uniform(0.75, 0.95, len(space)), strict=True)))
    folds = radius + 0.10 * _smooth(space, rng, 7)
    tissue = np.full(space, NOTHING)
    tissue[radius < 1.0] = FLUID
    tissue[radius < 0.92] = GREY
    tissue[folds < 0.68] = WHITE
    middle = np.sqrt(((warped / rng.uniform(0.7, 1.3, (len(space), *[1] * len(space)))) ** 2).sum(axis=0))
    tissue[middle < rng.uniform(0.14, 0.24)] = FLUID
    for _ in range(rng.integers(1, 4)):
        _grow(tissue, grid, rng)
    return tissue


def _grow(tissue: npt.NDArray[np.int64], grid: npt.NDArray[Any], rng: np.random.Generator) -> None:
    """A lesion somewhere in the brain: swelling, rim and core from outside in; one in five has no rim."""
    brain = np.argwhere((tissue == GREY) | (tissue == WHITE))
    centre = grid[(slice(None), *brain[rng.integers(len(brain))])]
    away = grid - centre.reshape(-1, *[1] * len(centre))
    size = rng.uniform(0.16, 0.34)
    distance = np.sqrt((away**2).sum(axis=0)) / size + 0.25 * _smooth(tissue.shape, rng, 6)
    inside = np.isin(tissue, (GREY, WHITE, SWELLING))
    tissue[inside & (distance < 1.0)] = SWELLING
    rim = rng.uniform(0.5, 0.7)
    tissue[inside & (distance < rim)] = RIM if rng.random() < 0.8 else CORE
    tissue[inside & (distance < rim * rng.uniform(0.45, 0.7))] = CORE


def _picture(tissue: npt.NDArray[np.int64], name: str, rng: np.random.Generator) -> Array:
    """Brightness by tissue, blurred over a voxel, lit unevenly, and noisy inside the head; zeros outside."""
    table = np.asarray(BRIGHTNESS[name]) + np.concatenate([[0.0], rng.normal(0, 0.03, len(BRIGHTNESS[name]) - 1)])
    clean = _blurred(table[tissue])
    lit = clean * np.exp(LIGHT * _smooth(tissue.shape, rng, 2)) * rng.uniform(0.8, 1.2)
    noisy = lit + rng.normal(0, NOISE, tissue.shape)
    return np.where(tissue == NOTHING, 0.0, np.clip(noisy, 0.01, 2.0)).astype(np.float32)


def _smooth(space: tuple[int, ...], rng: np.random.Generator, points: int) -> Array:
    """A slow random field of deviation about 1: numbers on a coarse grid, drawn larger axis by axis."""
    field = rng.standard_normal((points,) * len(space))
    for axis, length in enumerate(space):
        field = _stretched(field, axis, length)
    return np.asarray(field / max(float(field.std()), 1e-9), dtype=np.float32)


def _stretched(field: npt.NDArray[Any], axis: int, length: int) -> npt.NDArray[Any]:
    """Interpolated along one axis, with weights that leave and arrive smoothly."""
    place = np.linspace(0, field.shape[axis] - 1, length)
    low = np.minimum(place.astype(int), field.shape[axis] - 2)
    part = place - low
    shape = [length if a == axis else 1 for a in range(field.ndim)]
    weight = (part * part * (3 - 2 * part)).reshape(shape)
    return np.asarray(field.take(low, axis) * (1 - weight) + field.take(low + 1, axis) * weight)


def _blurred(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Each voxel half itself, half its neighbours."""
    for axis in range(x.ndim):
        padded = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)], mode="edge")
        n = x.shape[axis]
        x = 0.25 * padded.take(range(n), axis) + 0.5 * x + 0.25 * padded.take(range(2, n + 2), axis)
    return x
