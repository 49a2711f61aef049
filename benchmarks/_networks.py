"""Small trained networks that are not ours, on tables that benchmarks know: subjects to adapt.

Most have an encoder per modality, tokens side by side, `torch.nn.TransformerEncoder` on top and the mean of all tokens
into a linear head. In `gestures_mult` every stream attends to every other; `glyphs_vilt` is a ViLT of
transformers (`_modules.py`). `scenes` are drawn (`_scenes.py`); their network, two pyramids of convolutions and a
decoder, names a class for every pixel. `lgg_mri` is MONAI's BasicUNet on three MRI contrasts as the channels of one
input, and a mask of the tumour as its answer. All are trained here on complete rows.
`absentia adapt benchmarks/_networks.py:digits` adapts one by hand.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from _modules import CrossModal, Fusion, Numbers, Picture, Pixels, Signal, Vilt, Words
from _scenes import CLASSES, scenes
from _streams import prepared_streams
from _tables import data_folder, open_known
from torch import Tensor, nn
from torch.nn import functional as F

from absentia.adaptation.study import Subject
from absentia.data.splits import assign_splits
from absentia.errors import UserError

__all__ = ["EPOCHS", "SCENES", "SUBJECTS", "Fusion", "subject"]

CONTRASTS = ("t1_pre", "flair", "t1_post")
VILT_OWN = {part: f"backbone.embeddings.{module}_embeddings" for part, module in (("text", "text"), ("image", "patch"))}
PLACES = ("hand", "lower", "upper")
LETTERS = 40  # of a name, as many as are read
BATCH = 64
EPOCHS = {
    "lgg_mri": 30,
    "digits": 20,
    "mfeat": 20,
    "gestures_imu": 40,
    "gestures_mult": 40,
    "glyphs": 12,
    "glyphs_vilt": 12,
    "fashion": 20,
    "scenes": 20,
}
SCENES = {"train": 768, "val": 256, "test": 256}
Columns = dict[str, Tensor]


class Batches:
    """(inputs, target) in a new order each time it is read; the orders are the same in every process."""

    def __init__(self, inputs: Columns, target: Tensor, seed: int | None) -> None:
        self.inputs, self.target, self.seed, self.read = inputs, target, seed, 0

    def __iter__(self) -> Iterator[tuple[Columns, Tensor]]:
        order = torch.arange(len(self.target))
        if self.seed is not None:
            draw = torch.Generator().manual_seed(1000 * self.seed + self.read)
            order, self.read = torch.randperm(len(order), generator=draw), self.read + 1
        for rows in order.split(BATCH if self.seed is not None else 256):
            yield {name: x[rows] for name, x in self.inputs.items()}, self.target[rows]


def subject(name: str, seed: int, data: Path | None = None, work: Path = Path("streams")) -> Subject:
    """A network trained on complete rows, its rows in three splits; `UserError` where there is no table."""
    if name == "lgg_mri":
        return _mri_subject(seed, data)
    if name == "scenes":
        return _scenes_subject(seed)
    columns, target, splits, encoders = TABLES[name](data, work)
    classes = int(target.max()) + 1
    fusion: type[Fusion] | type[CrossModal] = CrossModal if name == "gestures_mult" else Fusion

    def fresh() -> nn.Module:
        if name == "glyphs_vilt":
            return Vilt(classes, words=128, length=LETTERS, side=columns["image"].shape[-1])
        return fusion({key: make() for key, make in encoders.items()}, classes)

    parts = _parts(columns, target, splits, seed)
    torch.manual_seed(seed)
    network = fresh()
    _train(network, parts["train"], EPOCHS[name], F.cross_entropy)
    return Subject(
        network=network,
        modalities={key: VILT_OWN[key] if name == "glyphs_vilt" else f"encoders.{key}" for key in columns},
        train=parts["train"],
        validation=parts["val"],
        test=parts["test"],
        loss=F.cross_entropy,
        score=lambda output, target: (output.argmax(dim=1) == target).float().mean(),
        metric="accuracy",
        fresh=fresh,
        features="head",
    )


def digits() -> Subject:
    """The upper and the lower half of scikit-learn's digits; the factory of `absentia adapt`."""
    return subject("digits", 0)


def _parts(columns: Columns, target: Tensor, splits: np.ndarray, seed: int) -> dict[str, Batches]:
    parts = {}
    for split in ("train", "val", "test"):
        rows = torch.from_numpy(np.flatnonzero(splits == split))
        order = seed if split == "train" else None
        parts[split] = Batches({k: x[rows] for k, x in columns.items()}, target[rows], order)
    return parts


def _scenes_subject(seed: int) -> Subject:
    """The same scenes for every seed, others in each split."""
    parts = {}
    for number, (split, count) in enumerate(SCENES.items()):
        parts[split] = Batches(*scenes(count, number), seed if split == "train" else None)

    def fresh() -> nn.Module:
        return Pixels({name: x.shape[1] for name, x in parts["train"].inputs.items()}, len(CLASSES))

    torch.manual_seed(seed)
    network = fresh()
    _train(network, parts["train"], EPOCHS["scenes"], F.cross_entropy, lr=3e-3)
    return Subject(
        network=network,
        modalities={name: f"encoders.{name}" for name in parts["train"].inputs},
        train=parts["train"],
        validation=parts["val"],
        test=parts["test"],
        loss=F.cross_entropy,
        score=_overlap,
        metric="iou",
        fresh=fresh,
        features="head",
    )


def _overlap(output: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of a batch's pixels, the mean over the classes that are asked for or answered."""
    answer = F.one_hot(output.argmax(dim=1), len(CLASSES)).flatten(0, 2).bool()  # (P, K)
    asked = F.one_hot(target, len(CLASSES)).flatten(0, 2).bool()
    both, either = (answer & asked).sum(0), (answer | asked).sum(0)
    return (both[either > 0] / either[either > 0]).mean()


def _mri_subject(seed: int, data: Path | None) -> Subject:
    """Slices of 64 x 64 that have all three contrasts; those without tumour are only trained on."""
    try:
        from monai.networks.nets import BasicUNet
    except ImportError:
        raise UserError("lgg_mri needs monai: pip install monai") from None
    columns, mask, splits = _slices(data)
    parts = _parts(columns, mask, splits, seed)

    def fresh() -> nn.Module:
        return BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=(8, 8, 16, 32, 64, 8))

    torch.manual_seed(seed)
    network = fresh()
    _train(network, parts["train"], EPOCHS["lgg_mri"], _overlap_loss)
    return Subject(
        network=network,
        modalities=list(CONTRASTS),
        inputs={name: f"x[:, {channel}]" for channel, name in enumerate(CONTRASTS)},
        train=parts["train"],
        validation=parts["val"],
        test=parts["test"],
        loss=_overlap_loss,
        score=lambda output, target: _dice(output.sigmoid().round(), target).mean(),
        metric="dice",
        fresh=fresh,
        features="final_conv",
    )


def _slices(data: Path | None) -> tuple[Columns, Tensor, np.ndarray]:
    folder = data_folder(data)
    if folder is None or not (folder / "lgg_mri/table.parquet").is_file():
        raise UserError("lgg_mri: say --data FOLDER or set ABSENTIA_DATA, where lgg_mri/table.parquet is")
    table = pq.read_table(folder / "lgg_mri/table.parquet")
    there = np.all([[cell is not None for cell in table[name].to_pylist()] for name in CONTRASTS], axis=0)
    table = table.take(np.flatnonzero(there))
    stacked = torch.stack([_pictures(table[name].to_pylist()) for name in CONTRASTS], dim=1)
    mask = (_pictures(table["mask"].to_pylist()) > 0.5).float()[:, None]
    splits = np.asarray(table["split"].to_pylist())
    splits = np.where((splits != "train") & ~mask.flatten(1).any(1).numpy(), "left out", splits)
    seen = stacked[torch.from_numpy(splits == "train")]
    stacked = (stacked - seen.mean((0, 2, 3), keepdim=True)) / seen.std((0, 2, 3), keepdim=True)
    return {"x": stacked}, mask, splits


def _overlap_loss(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and 1 - Dice."""
    return F.binary_cross_entropy_with_logits(output, target) + 1 - _dice(output.sigmoid(), target, smooth=1.0).mean()


def _dice(answer: Tensor, target: Tensor, smooth: float = 1e-6) -> Tensor:
    """(B,)"""
    both = (answer * target).flatten(1).sum(1)
    return (2 * both + smooth) / (answer.flatten(1).sum(1) + target.flatten(1).sum(1) + smooth)


def _pictures(cells: Sequence[Any]) -> Tensor:
    """(N, 64, 64) from 0 to 1."""
    from PIL import Image

    halved = [Image.open(io.BytesIO(_bytes(cell))).convert("L").reduce(2) for cell in cells]
    return torch.tensor(np.stack([np.asarray(picture) for picture in halved]), dtype=torch.float32) / 255


def _train(
    network: nn.Module, batches: Batches, epochs: int, loss: Callable[[Any, Tensor], Tensor], lr: float = 1e-3
) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
    steps = epochs * -(-len(batches.target) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1)
    network.train()
    for _ in range(epochs):
        for inputs, target in batches:
            optimizer.zero_grad(set_to_none=True)
            loss(network(**inputs), target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()


Made = tuple[Columns, Tensor, np.ndarray, dict[str, Callable[[], nn.Module]]]


def _digits(data: Path | None, work: Path) -> Made:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pictures = torch.tensor(loaded.images / 8 - 1, dtype=torch.float32)[:, None]
    splits = assign_splits(None, [str(i) for i in range(len(pictures))])
    columns = {"upper": pictures[:, :, :4], "lower": pictures[:, :, 4:]}
    make = {name: lambda: Picture(1, stride=1) for name in columns}
    return columns, torch.tensor(loaded.target), np.asarray(splits), make


def _mfeat(data: Path | None, work: Path) -> Made:
    table = open_known("mfeat", data_folder(data)).take(np.arange(2000))
    return _vectors(table, ("pix", "fou", "fac", "zer", "kar", "mor"), "label")


def _fashion(data: Path | None, work: Path) -> Made:
    folder = data_folder(data)
    assert folder is not None
    encoders = {"image": str(folder / "encoders/mobilenet_v2"), "text": str(folder / "encoders/all-MiniLM-L6-v2")}
    stream = prepared_streams(["fashion"], folder, work, encoders)["fashion"]
    table = pq.read_table(stream.table).filter(pc.field("image").is_valid() & pc.field("text").is_valid())
    facts = _one_hot([[str(table[c][i].as_py()) for c in ("colour", "usage")] for i in range(table.num_rows)])
    table = table.append_column("attributes", pa.array(facts.tolist(), pa.list_(pa.float32())))
    return _vectors(table, ("image", "text", "attributes"), "article")


def _gestures(data: Path | None, work: Path) -> Made:
    names = [f"{place}_{sensor}" for place in PLACES for sensor in ("acc", "gyro")]
    table = open_known("gestures_imu", data_folder(data)).take(np.arange(624))
    splits = np.asarray(assign_splits(table["split"].to_pylist(), table["id"].to_pylist()))
    columns = {}
    for name in names:
        x = torch.tensor(np.asarray(table[name].to_pylist(), dtype=np.float32))
        x = x if x.shape[1] < x.shape[2] else x.mT
        seen = x[torch.from_numpy(splits == "train")]
        columns[name] = (x - seen.mean((0, 2), keepdim=True)) / seen.std((0, 2), keepdim=True).clamp(min=1e-6)
    return columns, _numbered(table["gesture"].to_pylist()), splits, _signal_encoders(columns)


def _gestures_by_place(data: Path | None, work: Path) -> Made:
    """Three streams instead of six."""
    columns, target, splits, _ = _gestures(data, work)
    joined = {place: torch.cat([columns[f"{place}_acc"], columns[f"{place}_gyro"]], dim=1) for place in PLACES}
    return joined, target, splits, _signal_encoders(joined)


def _signal_encoders(columns: Columns) -> dict[str, Callable[[], nn.Module]]:
    return {name: (lambda c=x.shape[1]: Signal(c)) for name, x in columns.items()}


def _glyphs(data: Path | None, work: Path) -> Made:
    from PIL import Image

    table = open_known("glyphs", None).take(np.arange(13_413))
    _, first = np.unique(np.asarray(table["id"].to_pylist()), return_index=True)  # one rendering of each character
    table = table.take(np.sort(first))
    pictures = [np.asarray(Image.open(io.BytesIO(_bytes(cell))).convert("L")) for cell in table["image"].to_pylist()]
    text = torch.zeros(table.num_rows, LETTERS, dtype=torch.long)
    for row, words in enumerate(table["text"].to_pylist()):
        codes = [min(ord(letter), 127) for letter in (words or "")[:LETTERS]]
        text[row, : len(codes)] = torch.tensor(codes)
    facts = ("category", "bidirectional", "combining", "width", "mirrored", "decomposition")
    properties = _one_hot([[str(table[c][i].as_py()) for c in facts] for i in range(table.num_rows)])
    columns = {
        "image": torch.tensor(np.stack(pictures), dtype=torch.float32)[:, None] / 128 - 1,
        "text": text,
        "properties": torch.tensor(properties),
    }
    width = properties.shape[1]
    make = {"image": lambda: Picture(1), "text": lambda: Words(128), "properties": lambda: Numbers(width)}
    splits = np.asarray(assign_splits(table["split"].to_pylist(), table["id"].to_pylist()))
    return columns, _numbered(table["script"].to_pylist()), splits, make


def _glyphs_pair(data: Path | None, work: Path) -> Made:
    columns, target, splits, _ = _glyphs(data, work)
    return {name: columns[name] for name in VILT_OWN}, target, splits, {}


def _vectors(table: pa.Table, names: Sequence[str], target: str) -> Made:
    """Columns of vectors, standardised by the training rows."""
    splits = np.asarray(assign_splits(table["split"].to_pylist(), table["id"].to_pylist()))
    columns = {}
    for name in names:
        x = torch.tensor(np.asarray(table[name].to_pylist(), dtype=np.float32))
        seen = x[torch.from_numpy(splits == "train")]
        columns[name] = (x - seen.mean(0)) / seen.std(0).clamp(min=1e-6)
    make = {name: (lambda d=x.shape[1]: Numbers(d)) for name, x in columns.items()}
    return columns, _numbered(table[target].to_pylist()), splits, make


def _one_hot(cells: Sequence[Sequence[str]]) -> np.ndarray:
    from sklearn.preprocessing import OneHotEncoder

    return np.asarray(OneHotEncoder(sparse_output=False).fit_transform(np.asarray(cells)), dtype=np.float32)


def _numbered(labels: Sequence[Any]) -> Tensor:
    known = {label: number for number, label in enumerate(sorted(set(labels)))}
    return torch.tensor([known[label] for label in labels])


def _bytes(cell: Any) -> bytes:
    return cell["bytes"] if isinstance(cell, dict) else bytes(cell)


TABLES: dict[str, Callable[[Path | None, Path], Made]] = {
    "digits": _digits,
    "mfeat": _mfeat,
    "gestures_imu": _gestures,
    "gestures_mult": _gestures_by_place,
    "glyphs": _glyphs,
    "glyphs_vilt": _glyphs_pair,
    "fashion": _fashion,
}
SUBJECTS = (*TABLES, "lgg_mri", "scenes")
