"""Masked modelling by kind: what is hidden reaches nothing, its place is known, and holes are no questions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests import tiny
from torch import Tensor

from absentia.config import Model
from absentia.learn.backbones import blank_backbone
from absentia.models.backbone import FusedBackbone
from absentia.models.encoders.pretrained import FeatureEmbedder
from absentia.models.puzzles import (
    FeaturePuzzle,
    ImagePuzzle,
    Puzzle,
    SeriesPuzzle,
    TabularPuzzle,
    TextPuzzle,
    puzzle_for,
)

MODEL = Model(width=16, depth=1, heads=2, mlp=1, dropout=0.0)
KINDS: dict[str, type[Puzzle]] = {
    "photo": ImagePuzzle,
    "words": TextPuzzle,
    "facts": TabularPuzzle,
    "wave": SeriesPuzzle,
}
DATA = tiny.prepared()
BATCH = tiny.everything(DATA)


def backbone() -> FusedBackbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return blank_backbone(DATA.fitted.schema, DATA.fitted.decoders, {}, MODEL)


def puzzle_of(name: str) -> tuple[Puzzle, Any, dict[str, Tensor]]:
    embedder = backbone().embedder(name)
    found = puzzle_for(embedder, width=16)
    assert type(found) is KINDS[name]
    return found, embedder, BATCH.inputs[name]


def some_hidden(valid: Tensor) -> Tensor:
    return valid & (torch.rand(valid.shape, generator=torch.Generator().manual_seed(4)) < 0.5)


def scrambled(name: str, inputs: dict[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
    """The same rows with something else behind every hidden token, and nowhere else."""
    if name == "words":
        return inputs | {"ids": torch.where(hidden, (inputs["ids"] + 7) % 250, inputs["ids"])}
    if name == "photo":  # 8 x 16 pixels are two patches
        gone = hidden.repeat_interleave(8, dim=1)[:, None, None].expand_as(inputs["pixels"])
        return inputs | {"pixels": torch.where(gone, 255 - inputs["pixels"], inputs["pixels"])}
    if name == "wave":
        size = DATA.fitted.decoders["wave"].patch
        gone = hidden.repeat_interleave(size, dim=1)[:, : inputs["steps"].shape[1], None]
        return inputs | {"steps": torch.where(gone, inputs["steps"] + 3, inputs["steps"])}
    return {
        "numbers": torch.where(hidden[:, :1], inputs["numbers"] - 2, inputs["numbers"]),
        "holes": inputs["holes"] ^ hidden[:, :1],
        "categories": torch.where(hidden[:, 1:], (inputs["categories"] + 1) % 5, inputs["categories"]),
    }


@pytest.mark.parametrize("name", KINDS)
def test_nothing_hidden_is_the_embedder_itself(name: str) -> None:
    puzzle, embedder, inputs = puzzle_of(name)
    tokens, valid = embedder(**inputs)
    assert torch.equal(puzzle.tokens(inputs), valid[:, 1:])
    veiled, same = puzzle.veiled(inputs, torch.zeros_like(valid[:, 1:]), embedder)
    assert torch.equal(veiled, tokens) and torch.equal(same, valid)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_hidden_reaches_no_token(name: str) -> None:
    puzzle, embedder, inputs = puzzle_of(name)
    hidden = some_hidden(puzzle.tokens(inputs))
    other = scrambled(name, inputs, hidden)
    assert any(not torch.equal(other[key], inputs[key]) for key in inputs)
    assert torch.equal(puzzle.veiled(inputs, hidden, embedder)[0], puzzle.veiled(other, hidden, embedder)[0])
    assert not torch.equal(embedder(**inputs)[0], embedder(**other)[0])


@pytest.mark.parametrize("name", KINDS)
def test_hidden_tokens_keep_their_places(name: str) -> None:
    puzzle, embedder, inputs = puzzle_of(name)
    valid = puzzle.tokens(inputs)
    veiled = puzzle.veiled(inputs, valid, embedder)[0][:, 1:]
    expected = puzzle.veil + embedder.places(valid.shape[1]) + embedder.modality_type
    assert torch.allclose(veiled[valid], expected.expand_as(veiled)[valid], atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_only_hidden_tokens_are_asked_about(name: str) -> None:
    puzzle, embedder, inputs = puzzle_of(name)
    valid = puzzle.tokens(inputs)
    hidden = some_hidden(valid)
    outputs = torch.randn(*valid.shape, 16, generator=torch.Generator().manual_seed(1))
    outputs = torch.cat([outputs[:, :1], outputs], dim=1).requires_grad_()
    puzzle.loss(outputs, inputs, hidden, embedder).backward()
    assert outputs.grad is not None
    reached = outputs.grad[:, 1:].abs().sum(dim=2) > 0
    assert reached.any() and not (reached & ~hidden).any() and not outputs.grad[:, 0].any()
    nothing = puzzle.loss(outputs, inputs, torch.zeros_like(hidden), embedder)
    assert float(nothing.detach()) == 0 and nothing.requires_grad


def test_a_hole_is_no_question() -> None:
    puzzle, embedder, inputs = puzzle_of("facts")
    everything = puzzle.tokens(inputs)
    outputs = torch.randn(len(everything), 3, 16, generator=torch.Generator().manual_seed(1))
    inputs = inputs | {"holes": torch.ones_like(inputs["holes"]), "categories": torch.zeros_like(inputs["categories"])}
    assert float(puzzle.loss(outputs, inputs, everything, embedder).detach()) == 0


def test_who_knows_nothing_is_wrong_by_one_or_less() -> None:
    for name in KINDS:
        puzzle, embedder, inputs = puzzle_of(name)
        with torch.no_grad():
            for parameter in puzzle.parameters():
                parameter.zero_()
        valid = puzzle.tokens(inputs)
        outputs = torch.zeros(len(valid), 1 + valid.shape[1], 16)
        assert 0.1 < float(puzzle.loss(outputs, inputs, valid, embedder).detach()) <= 1.3, name


def test_the_gist_is_asked_at_places() -> None:
    puzzle, embedder, inputs = puzzle_of("words")
    valid = puzzle.tokens(inputs)
    gist = torch.randn(len(valid), 16, generator=torch.Generator().manual_seed(1), requires_grad=True)
    rows = torch.arange(len(valid))[:, None] % 2 == 0
    puzzle.gist_loss(gist, inputs, valid & rows, embedder).backward()
    assert gist.grad is not None and not gist.grad[~rows[:, 0]].any() and gist.grad[(valid & rows).any(dim=1)].any()
    assert embedder.position.grad is not None


def test_features_of_a_frozen_encoder() -> None:
    embedder = FeatureEmbedder(width=16, features=6)
    puzzle = puzzle_for(embedder, width=16)
    assert isinstance(puzzle, FeaturePuzzle)
    inputs = {"features": torch.randn(5, 1, 6), "mask": torch.ones(5, 1, dtype=torch.bool)}
    hidden = torch.tensor([[True], [False], [True], [False], [False]])
    other = inputs | {"features": torch.where(hidden[..., None], 9.0, inputs["features"])}
    assert torch.equal(puzzle.veiled(inputs, hidden, embedder)[0], puzzle.veiled(other, hidden, embedder)[0])
    loss = puzzle.loss(torch.randn(5, 2, 16), inputs, hidden, embedder)
    assert math.isfinite(float(loss.detach()))


def test_pictures_that_no_patch_fits() -> None:
    content = tiny.rows(30)
    schema = tiny.schema(names=["photo"])
    kind = replace(schema.modalities["photo"], size=(12, 20))
    decoder = kind.fit([], root=None)
    cells = [decoder.decode(row["photo"]) for row in content if row["photo"] is not None]
    pixels = torch.from_numpy(np.asarray(decoder.collate(cells)["pixels"]))
    schema = replace(schema, modalities={"photo": kind})
    embedder = blank_backbone(schema, {"photo": decoder}, {}, MODEL).embedder("photo")
    puzzle = puzzle_for(embedder, width=16)
    assert puzzle is not None
    valid = puzzle.tokens({"pixels": pixels})
    assert valid.shape == (len(cells), 2 * 3) == embedder(pixels=pixels)[1][:, 1:].shape
    loss = puzzle.loss(torch.randn(len(cells), 7, 16), {"pixels": pixels}, valid, embedder)
    assert math.isfinite(float(loss.detach()))
