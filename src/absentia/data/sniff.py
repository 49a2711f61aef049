"""What a file or cell really is, by its first bytes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from absentia.errors import UserError

__all__ = [
    "AUDIO_SUFFIXES",
    "IMAGE_SUFFIXES",
    "audio_format",
    "image_format",
    "open_text",
    "refuse_binary",
    "volume_format",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")

_OTHER = {
    b"PAR1": "a Parquet file; call it .parquet",
    b"PK\x03\x04": "a zip archive or an Excel workbook; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"%PDF": "a PDF",
    b"ARROW1": "an Arrow file; save it as Parquet",
    b"\x89HDF": "an HDF5 file; save it as Parquet",
}


def image_format(head: bytes) -> str | None:
    """'PNG', 'JPEG', 'WebP', 'BMP', 'GIF' or 'TIFF', by the first bytes; None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    starts = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    return next((name for start, name in starts.items() if head.startswith(start)), None)


def volume_format(head: bytes) -> str | None:
    """'NIfTI', or 'gzip' for what is one in all likelihood, by the first bytes; None for anything else."""
    starts = {b"\x5c\x01\0\0": "NIfTI", b"\x1c\x02\0\0": "NIfTI", b"\x1f\x8b": "gzip"}
    return next((name for start, name in starts.items() if head.startswith(start)), None)


def audio_format(head: bytes) -> str | None:
    """'WAV', 'FLAC', 'OGG', 'MP3' or 'AIFF', by the first bytes; None for anything else."""
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:11] == b"AIF":
        return "AIFF"
    if head[:3] == b"ID3" and head[3:4] < b"\x10":
        return "MP3"
    starts = {b"fLaC": "FLAC", b"OggS": "OGG", b"\xff\xfb": "MP3", b"\xff\xf3": "MP3", b"\xff\xf2": "MP3"}
    return next((name for start, name in starts.items() if head.startswith(start)), None)


def open_text(path: Path) -> pa.NativeFile:
    """The bytes of a text file, unpacked where its name says that they are packed (.gz, .bz2, .zst)."""
    return pa.input_stream(str(path), compression="detect")


def refuse_binary(path: Path, head: bytes) -> None:
    """Raises UserError if the first bytes are not those of a text."""
    picture, sound = image_format(head), audio_format(head)
    if picture or sound:
        raise UserError(
            f"{path} is not a table: it is a {picture or sound} file; give the table that names it in a cell"
        )
    for start, what in _OTHER.items():
        if head.startswith(start):
            raise UserError(f"{path} is not a text table: it is {what}")
    if b"\0" in head:
        raise UserError(f"{path} is not a table: it holds bytes that no text has")
