"""The embedders learned from scratch: shapes, masks, gradients, and that padding never shows."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch import Tensor

from absentia.data.batch import tensors
from absentia.data.kinds import Decoder, Image, Series, Tabular, Text, Volume
from absentia.data.kinds.audio import AudioDecoder
from absentia.models.encoders import Embedder, embedder_for

WIDTH = 16
RNG = np.random.default_rng(0)


def picture(height: int = 24, width: int = 20) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def wave(steps: int, channels: int = 3) -> Any:
    return RNG.normal(size=(steps, channels)).tolist()


FACTS = [{"n": float(i), "v": [i, -i, 2.0], "c": "ab"[i % 2]} for i in range(4)]
TEXTS = ["one two three", "", "four", "one two three four five six"]
CELLS: dict[str, list[Any]] = {
    "image": [picture() for _ in range(4)],
    "text": TEXTS,
    "tabular": [*FACTS[:2], {"n": None, "v": [None, 1.0, None], "c": None}, {"n": 1.0, "v": None, "c": "new"}],
    "series": [wave(n) for n in (1, 130, 64, 7)],
    "audio": [None] * 4,
    "volume": [RNG.random((11, 9, 6)).tolist() for _ in range(4)],
    "plane": [RNG.random((24, 20)).tolist() for _ in range(4)],
}


class Frames(AudioDecoder):
    """Sounds without a sound library: cells are ready frames."""

    def decode(self, cell: Any) -> Any:
        return self.standardised(RNG.normal(size=(cell or 9, self.channels)))


def decoder_of(kind: str) -> Decoder:
    if kind == "audio":
        return Frames(rate=8000, max_seconds=1.0, mean=[0.0] * 6, std=[1.0] * 6, patch=4)
    fitted: dict[str, Decoder] = {
        "image": Image().fit(CELLS["image"]),
        "text": Text(max_length=12).fit(TEXTS * 3),
        "tabular": Tabular(columns=("n", "v", "c")).fit(FACTS),
        "series": Series(layout="steps-first").fit([wave(100) for _ in range(5)]),
    }
    fitted |= {"volume": Volume().fit(CELLS["volume"]), "plane": Volume().fit(CELLS["plane"])}
    return fitted[kind]


def made(kind: str) -> tuple[Decoder, Embedder]:
    torch.manual_seed(0)
    decoder = decoder_of(kind)
    return decoder, embedder_for(decoder, width=WIDTH).eval()


def batch(decoder: Decoder, cells: list[Any]) -> dict[str, Tensor]:
    return tensors(decoder.collate([decoder.decode(cell) for cell in cells]))


KINDS = pytest.mark.parametrize("kind", list(CELLS))


@KINDS
def test_shapes_with_the_cls_first(kind: str) -> None:
    decoder, embedder = made(kind)
    tokens, valid = embedder(**batch(decoder, CELLS[kind]))
    assert tokens.shape == (4, valid.shape[1], WIDTH) and valid.dtype == torch.bool
    assert valid[:, 0].all() and tokens.isfinite().all()
    assert embedder.cls().shape == (WIDTH,)
    torch.testing.assert_close(tokens[:, 0], embedder.cls().expand(4, WIDTH))


@pytest.mark.parametrize(
    ("kind", "count"),
    [("image", 3 * 2), ("tabular", 3), ("series", -(-130 // 4)), ("audio", 3), ("volume", 3 * 3 * 2), ("plane", 6 * 5)],
)
def test_how_many_tokens(kind: str, count: int) -> None:
    decoder, embedder = made(kind)
    assert embedder(**batch(decoder, CELLS[kind]))[0].shape[1] == 1 + count


@KINDS
def test_every_parameter_learns(kind: str) -> None:
    decoder, embedder = made(kind)
    tokens, valid = embedder(**batch(decoder, CELLS[kind]))
    (tokens * torch.randn_like(tokens) * valid[..., None]).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in embedder.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@KINDS
def test_the_type_is_on_every_token(kind: str) -> None:
    decoder, embedder = made(kind)
    inputs = batch(decoder, CELLS[kind])
    with torch.no_grad():
        before, _ = embedder(**inputs)
        embedder.modality_type += 1
        torch.testing.assert_close(embedder(**inputs)[0], before + 1)


@KINDS
def test_rows_do_not_see_each_other(kind: str) -> None:
    decoder, embedder = made(kind)
    values = [decoder.decode(cell) for cell in CELLS[kind]]
    with torch.no_grad():
        tokens, valid = embedder(**tensors(decoder.collate(values)))
        for i, value in enumerate(values):
            alone, real = embedder(**tensors(decoder.collate([value])))
            assert valid[i].sum() == real.sum()
            torch.testing.assert_close(tokens[i][valid[i]], alone[0][real[0]], atol=1e-6, rtol=0)


@settings(max_examples=60)
@given(
    patch=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    longer=st.integers(0, 20),
)
def test_padding_never_shows_in_a_series(patch: int, lengths: list[int], longer: int) -> None:
    torch.manual_seed(0)
    decoder = Series(layout="steps-first").restore(
        {"mean": [0.0] * 2, "std": [1.0] * 2, "patch": patch, "flip": False, "max_length": 100}
    )
    embedder = embedder_for(decoder, width=8)
    values = [decoder.decode(wave(n, 2)) for n in lengths]
    inputs = tensors(decoder.collate(values))
    rubbish = torch.full((len(values), longer, 2), float("nan"))
    steps = torch.cat([inputs["steps"].masked_fill(~inputs["mask"][..., None], 1e9), rubbish], dim=1)
    mask = torch.nn.functional.pad(inputs["mask"], (0, longer))
    with torch.no_grad():
        tokens, valid = embedder(steps=steps, mask=mask)
        for i, value in enumerate(values):
            alone, real = embedder(**tensors(decoder.collate([value])))
            assert valid[i].sum() == real.sum() == 1 + -(-lengths[i] // patch)
            torch.testing.assert_close(tokens[i][valid[i]], alone[0], atol=1e-6, rtol=0)


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), st.integers(0, 283))
def test_padding_never_shows_in_a_text(texts: list[str], rubbish: int) -> None:
    decoder, embedder = TEXT
    inputs = batch(decoder, texts)
    inputs["ids"] = inputs["ids"].masked_fill(~inputs["mask"], rubbish % decoder.vocabulary)  # type: ignore[attr-defined]
    with torch.no_grad():
        tokens, valid = embedder(**inputs)
        for i, text in enumerate(texts):
            alone, _ = embedder(**batch(decoder, [text]))
            torch.testing.assert_close(tokens[i][valid[i]], alone[0], atol=1e-6, rtol=0)


TEXT = made("text")


def test_empty_texts_leave_only_the_cls() -> None:
    decoder, embedder = TEXT
    tokens, valid = embedder(**batch(decoder, ["", ""]))
    assert tokens.shape == (2, 1, WIDTH) and valid.all()
    tokens.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (20, 20), (17, 64), (33, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_any_size(size: tuple[int, int], channels: int) -> None:
    decoder = Image().restore({"size": list(size), "channels": channels})
    tokens, valid = embedder_for(decoder, width=8)(**batch(decoder, [picture(), picture()]))
    assert tokens.shape == (2, 1 + -(-size[0] // 8) * -(-size[1] // 8), 8) and valid.all()


def test_a_hole_is_not_the_mean() -> None:
    decoder, embedder = made("tabular")
    mean = {"n": 1.5, "v": [1.5, -1.5, 2.0], "c": "a"}
    cells = [mean, mean | {"n": None}, mean | {"v": [None, -1.5, 2.0]}, mean | {"v": None}, mean | {"c": None}]
    with torch.no_grad():
        tokens, _ = embedder(**batch(decoder, cells))
    changed = (tokens - tokens[0]).abs().amax(dim=2) > 1e-6
    assert changed.tolist() == [[False] * 4, *([[i == j for j in range(4)] for i in (1, 2, 2, 3)])]
    shift = (tokens[[2, 3], 2] - tokens[0, 2]).norm(dim=1)
    assert shift[1] == pytest.approx(3 * shift[0].item(), rel=1e-4)  # as large as the share that is missing


@pytest.mark.parametrize("columns", [("n",), ("c",), ("v",), ("n", "c")])
def test_groups_of_any_columns(columns: tuple[str, ...]) -> None:
    decoder = Tabular(columns=columns).fit(FACTS)
    tokens, valid = embedder_for(decoder, width=8)(**batch(decoder, FACTS))
    assert tokens.shape == (4, 1 + len(columns), 8) and valid.all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@KINDS
def test_tokens_have_the_type_of_the_weights(kind: str, dtype: torch.dtype) -> None:
    decoder, embedder = made(kind)
    assert embedder.to(dtype)(**batch(decoder, CELLS[kind]))[0].dtype == dtype


def test_what_has_no_embedder() -> None:
    class Other(Decoder):
        decode = collate = blank = state = None  # type: ignore[assignment]

    with pytest.raises(TypeError, match="no embedder for Other"):
        embedder_for(Other(), width=8)
