"""Pictures of any format and depth become the pixels a person sees; whatever is damaged is one bad cell."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from absentia.data.kinds import Image
from absentia.data.kinds.image import FORMATS, SAMPLE, read_image
from absentia.errors import BadCell

NOISE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
EXACT = ("PNG", "BMP", "WEBP", "TIFF", "PPM", "QOI", "TGA", "ICO")
LOSSY = ("JPEG", "JPEG2000", "AVIF", "MPO")


def smooth(mode: str = "RGB", size: tuple[int, int] = (20, 12)) -> Pillow.Image:
    """A picture without noise, so that lossy formats keep it."""
    return Pillow.linear_gradient("L").resize(size).convert(mode)


def encoded(picture: Pillow.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def lossless(array: Any, form: str = "PNG") -> bytes:
    options = {"WEBP": {"lossless": True}, "ICO": {"sizes": [(20, 12)]}}
    return encoded(Pillow.fromarray(array), form, **options.get(form, {}))


def pixels(cell: Any, size: tuple[int, int] = (12, 20), root: Path | None = None) -> Any:
    return Image(size=size).fit([cell], root=root).decode(cell)["pixels"]


SEEDS = [
    *(lossless(NOISE, form) for form in EXACT),
    *(encoded(smooth(), form) for form in LOSSY),
    encoded(Pillow.fromarray(NOISE).quantize(8), "GIF"),
    encoded(Pillow.fromarray(NOISE), "TIFF", compression="tiff_lzw"),
    encoded(Pillow.fromarray(NOISE).quantize(8), "PNG", transparency=bytes([0, 128, 255])),
]


@pytest.mark.parametrize("form", EXACT)
def test_lossless_formats_to_the_bit(form: str) -> None:
    assert (pixels(lossless(NOISE, form)).transpose(1, 2, 0) == NOISE).all()


@pytest.mark.parametrize("form", LOSSY)
def test_lossy_formats_nearly(form: str) -> None:
    wanted = np.asarray(smooth()).transpose(2, 0, 1).astype(int)
    assert np.abs(pixels(encoded(smooth(), form)).astype(int) - wanted).max() < 40


def test_every_format_is_tried() -> None:
    assert set(FORMATS) == {*EXACT, *LOSSY, "GIF"} - {"MPO"}  # a multi-picture file is opened as a JPEG


def test_formats_that_run_programs_are_not_opened() -> None:
    with pytest.raises(BadCell, match="is not an image that can be read"):
        read_image(encoded(smooth(), "EPS"), None)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        *(("1", "PNG"), ("L", "PNG"), ("LA", "PNG"), ("P", "GIF"), ("RGBA", "PNG")),
        *(("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "JPEG")),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_modes(mode: str, form: str, channels: int) -> None:
    decoder = Image().restore({"size": [16, 24], "channels": channels})
    found = decoder.decode(encoded(smooth(mode), form))["pixels"]
    assert found.shape == (channels, 16, 24) and found.dtype == np.uint8
    down = found.mean(axis=(0, 2))
    assert down[0] < 64 and down[-1] > 192  # dark above, bright below: nothing was cut off or turned round


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_become_eight(form: str) -> None:
    deep = np.linspace(0, 65535, 12 * 20).astype(np.uint16).reshape(12, 20)
    found = pixels(lossless(deep, form))
    assert found.shape[0] == 1
    assert np.abs(found[0] - deep / 257).max() <= 1


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.linspace(0, 1, 240, dtype=np.float32), np.linspace(0, 255, 240)),
        (np.linspace(0, 255, 240, dtype=np.float32), np.linspace(0, 255, 240)),
        (np.linspace(-40, 90, 240, dtype=np.float32), np.linspace(0, 255, 240)),
        (np.linspace(0, 65535, 240).astype(np.int32), np.linspace(0, 255, 240)),
        (np.linspace(-9, 10**9, 240).astype(np.int32), np.linspace(0, 255, 240)),
        (np.full(240, 7e8, dtype=np.float32), np.zeros(240)),
    ],
)
def test_thirty_two_bits_become_eight(array: Any, wanted: Any) -> None:
    found = pixels(lossless(array.reshape(12, 20), "TIFF"))
    assert found.shape[0] == 1 and np.abs(found[0].ravel() - wanted).max() <= 1


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(odd: float) -> None:
    with pytest.raises(BadCell, match="NaN or infinite pixels"):
        read_image(lossless(np.full((4, 4), odd, dtype=np.float32), "TIFF"), None)


def test_what_is_transparent_is_white() -> None:
    ink = np.zeros((12, 20, 4), dtype=np.uint8)
    ink[3:6, 3:6, 3] = 255  # black where it is opaque, and black where it is not
    found = pixels(lossless(ink))
    assert (found[:, 4, 4] == 0).all() and (found[:, 0, 0] == 255).all()
    assert pixels(lossless(ink[..., 2:]))[0, 0, 0] == 255  # grey with alpha stays grey
    assert pixels(lossless(ink[..., 2:])).shape[0] == 1


def test_a_palette_with_transparency() -> None:
    colours = Pillow.fromarray(np.array([[0, 1], [2, 2]], dtype=np.uint8), "P")
    colours.putpalette([250, 0, 0, 0, 250, 0, 0, 0, 250])
    found = np.asarray(read_image(encoded(colours, "PNG", transparency=bytes([255, 0, 128])), None))
    assert found[0].tolist() == [[250, 0, 0], [255, 255, 255]]
    assert np.abs(found[1].astype(int) - [127, 127, 252]).max() <= 2


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Pillow.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "moving.gif").write_bytes(content)
    for cell in (content, "moving.gif"):  # a file that stays open would be a ResourceWarning
        assert pixels(cell, (8, 8), tmp_path)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(orientation: int) -> None:
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # how a camera stores the upright picture
    stored = Pillow.fromarray(NOISE)
    if orientation > 1:
        stored = stored.transpose(Pillow.Transpose(turned[orientation]))
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    assert (np.asarray(read_image(encoded(stored, "PNG", exif=exif), None)) == NOISE).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_tiny_and_slim_pictures(shape: tuple[int, int]) -> None:
    cell = lossless(np.full((*shape, 3), 9, dtype=np.uint8))
    decoder = Image().fit([cell])
    assert decoder.decode(cell)["pixels"].shape == (3, *decoder.size)
    assert (decoder.decode(cell)["pixels"] == 9).all() and min(decoder.size) >= 8


def bomb(width: int, height: int) -> bytes:
    """A PNG that promises a picture it does not hold."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, body, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [8_001, 12_000, 60_000, 2**31 - 1])
def test_bombs_are_known_by_their_header(side: int) -> None:
    start = time.monotonic()
    with pytest.raises(BadCell, match="is a huge image"):
        read_image(bomb(side, side), None)
    assert time.monotonic() - start < 0.5


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (b"", "zero bytes"),
        (b"\x89PNG\r\n\x1a\n", "is not an image|is a corrupt image"),
        (b"GIF89a", "is not an image|is a corrupt image"),
        (b"hello, world", "is not an image that can be read"),
        (bytes(1000), "is not an image that can be read"),
        (lossless(NOISE)[:300], "is a corrupt image"),
        (encoded(smooth(size=(200, 200)), "JPEG")[:900], "is a corrupt image"),
        ("gone.jpg", "gone.jpg does not exist"),
        (7, "holds int"),
    ],
)
def test_bad_cells(cell: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(BadCell, match=reason):
        Image(size=8).fit([], root=tmp_path).decode(cell)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(st.sampled_from(SEEDS)))
    near = draw(st.sampled_from([40, 200, len(content)]))
    for place, value in draw(st.lists(st.tuples(st.integers(0, near), st.integers(0, 255)), max_size=6)):
        content[place % len(content)] = value
    return bytes(content[: draw(st.integers(1, len(content)) | st.just(len(content)))])


@settings(max_examples=400)
@given(damaged())
def test_damage_is_a_bad_cell_or_a_picture_but_no_other_error(cell: bytes) -> None:
    try:
        assert Image(size=8).restore({"size": [8, 8], "channels": 3}).decode(cell)["pixels"].shape == (3, 8, 8)
    except BadCell as error:
        assert str(error)


def test_the_usual_shape_and_colour_are_taken() -> None:
    grey = [lossless(NOISE[..., 0])] * 3
    assert Image().fit(grey).state() == {"size": [16, 16], "channels": 1}
    assert Image().fit([*grey, lossless(NOISE)]).state() == {"size": [16, 16], "channels": 3}
    large = lossless(np.zeros((300, 600), dtype=np.uint8))
    assert Image().fit([large]).state()["size"] == [32, 64]
    assert Image(size=20).fit([large]).state()["size"] == [20, 20]
    assert Image(size=[16, 40]).fit([large]).state()["size"] == [16, 40]  # type: ignore[arg-type]
    assert Image().fit([b"garbage", *grey]).state()["size"] == [16, 16]
    assert Image().fit([b"garbage"]).state() == Image().fit([]).state() == {"size": [32, 32], "channels": 1}


def test_fitting_opens_no_more_than_it_needs() -> None:
    opened = 0

    def cells() -> Iterator[bytes]:
        nonlocal opened
        for _ in range(10 * SAMPLE):
            opened += 1
            yield SEEDS[0]

    Image().fit(cells())
    assert opened == SAMPLE


@pytest.mark.parametrize("array", [NOISE, NOISE[..., 0], np.zeros((40, 70, 4), dtype=np.uint8)])
def test_a_restored_decoder_is_the_same(array: Any) -> None:
    cell = lossless(array)
    decoder = Image().fit([cell])
    again = Image().restore(json.loads(json.dumps(decoder.state())))
    assert (decoder.decode(cell)["pixels"] == again.decode(cell)["pixels"]).all()
    assert decoder.state() == again.state()


def test_a_batch_is_stacked_and_a_blank_fits_in() -> None:
    decoder = Image().fit([lossless(NOISE)])
    values = [decoder.decode(lossless(NOISE)), decoder.blank(), decoder.decode(lossless(NOISE[..., 0]))]
    stacked = decoder.collate(values)["pixels"]
    assert stacked.shape == (3, 3, *decoder.size) and stacked.dtype == np.uint8
    assert (stacked[1] == 0).all() and (stacked[0] == values[0]["pixels"]).all()
