"""Masks for the rows of a table, written as they come: NIfTI where a row lies, or PNG for planes."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import torch

from absentia.data.dense_rows import DenseRows
from absentia.data.schema import Target, pattern_name
from absentia.errors import UserError, extra
from absentia.evaluate.overlap import taken_back
from absentia.evaluate.windows import dense_scores
from absentia.learn.run import Run
from absentia.writing import replacing

__all__ = ["ANSWERS", "MaskFolder"]

ANSWERS = "answers.csv"
Bools = npt.NDArray[np.bool_]
Said = Callable[[str], object]


@dataclass
class MaskFolder:
    """Writes the masks that a run answers into a folder, and a table of what is in it."""

    run: Run
    path: Path
    names: set[str] = field(default_factory=set)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path.suffix in (".csv", ".parquet") or self.path.is_file():
            raise UserError(f"--out {str(self.path)!r}: masks go into a folder, one file for each row")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ANSWERS).unlink(missing_ok=True)  # it is there when all masks are
        except OSError as error:
            raise UserError(f"--out {str(self.path)!r}: the folder cannot be made: {error.strerror}") from None

    @torch.inference_mode()
    def add(self, rows: DenseRows, ids: Sequence[str | None], say: Said) -> None:
        """Answer rows and write them; ids: their entities, or None."""
        method = self.run.method.eval()
        for positions in rows.portions(len(rows)):
            scores, unsure = dense_scores(method, rows.batch(positions), advance=_counted(rows, positions, say))
            chosen = taken_back(scores > 0, method.parts.codec).cpu().numpy()
            for position, mask, uncertainty in zip(positions.tolist(), chosen, unsure.tolist(), strict=True):
                self._add(rows, position, mask, uncertainty, ids[position])

    def close(self) -> None:
        """Write answers.csv: row, id, files, voxels of each region, uncertainty and pattern."""
        with replacing(self.path / ANSWERS) as temporary:
            pacsv.write_csv(pa.Table.from_pylist(self.lines), temporary)

    def _add(self, rows: DenseRows, position: int, mask: Bools, uncertainty: float, entity: str | None) -> None:
        number, target = rows.first + int(rows.index[position]), self.run.fitted.codec.target
        there = bool(rows.presence[position].any())
        name = self._name(number, entity)
        maps = _maps(mask, target) if there else ()  # of a row with nothing nobody knows where its voxels are
        files = [_write(self.path / f"{name}{end}", x, rows.affine(position)) for end, x in maps]
        sizes = zip(target.classes, mask.reshape(len(mask), -1).sum(axis=1).tolist(), strict=True)
        self.lines.append(
            {"row": number, **({} if entity is None else {"id": entity}), "file": "; ".join(files)}
            | {f"voxels of {region}": size for region, size in sizes}
            | {"uncertainty": uncertainty, "pattern": pattern_name(rows.schema.names, rows.presence[position])}
        )

    def _name(self, row: int, entity: str | None) -> str:
        """The entity's name; with the row behind it where that is taken."""
        name = re.sub(r"[^\w.-]+", "_", entity) if entity else f"row{row}"
        name = f"{name}_{row}" if name in self.names else name
        self.names.add(name)
        return name


def _maps(mask: Bools, target: Target) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    """What is written of regions (K, *space): one map of labels, or a mask for each of several columns."""
    if len(target.columns) > 1:
        yield from ((f"_{name}", part.astype(np.uint8)) for name, part in zip(target.classes, mask, strict=True))
        return
    yield "", label_map(mask, target)


def label_map(mask: Bools, target: Target) -> npt.NDArray[np.generic]:
    """Labels (*space) from regions (K, *space): at each voxel the label that is in the most fitting regions.

    Where regions contradict each other, as ET outside of WT, the label that agrees with most of them.
    """
    regions = target.masks.regions
    labels = [0, *sorted({label for found in regions.values() for label in found})]
    member = np.asarray([[label in regions[name] for name in target.classes] for label in labels])
    wrong = np.stack([(mask != row.reshape(-1, *(1,) * (mask.ndim - 1))).sum(axis=0) for row in member])
    kind = np.uint8 if max(labels) < 256 else np.uint16
    chosen: npt.NDArray[np.generic] = np.asarray(labels, dtype=kind)[wrong.argmin(axis=0)]
    return chosen


def _write(path: Path, labels: npt.NDArray[np.generic], affine: npt.NDArray[np.float64]) -> str:
    """The file's name: NIfTI for a volume, PNG for a plane."""
    if labels.ndim == 2:
        from PIL import Image

        path = path.with_name(path.name + ".png")
        with replacing(path) as temporary:
            Image.fromarray(labels).save(temporary, "PNG")
        return path.name
    with extra("mri", "volumes"):
        import nibabel
    path = path.with_name(path.name + ".nii.gz")
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(nibabel.Nifti1Image(labels, affine).to_bytes()))
    return path.name


def _counted(rows: DenseRows, positions: npt.NDArray[np.int64], say: Said) -> Callable[[], None]:
    """Hears of every window of some rows and says so."""
    done = 0

    def heard() -> None:
        nonlocal done
        done += 1
        say(f"row {rows.first + int(rows.index[positions[0]]):,}, window {done:,}")

    return heard
