"""What `abs classify` refuses: one line that names the input and what to do, and nothing half-written."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs, colour

QUICK = ("--threads", "1", "--views", "3")


def png_bomb() -> bytes:
    """A PNG that claims 30,000 x 30,000 pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


def cut_jpeg() -> bytes:
    stream = io.BytesIO()
    colour(1, (300, 200)).save(stream, "JPEG")
    return stream.getvalue()[:-2000]


def test_a_label_that_is_only_spaces_in_a_list(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"])
    line = abs_command.refuses("classify", root / "cat" / "a.png", "--labels", "cat,  ,dog", *QUICK)
    assert "label 2" in line


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("text.png", b"this is no image", "text.png"),
        ("empty.jpg", b"", "empty.jpg"),
        ("cut.jpg", cut_jpeg(), "cut.jpg"),
        ("bomb.png", png_bomb(), "bomb.png"),
    ],
)
@pytest.mark.slow
def test_files_that_are_no_images(abs_command: Abs, tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert expected in abs_command.refuses("classify", path, "--labels", "cat,dog", *QUICK)
    assert not list(abs_command.home.rglob("*"))


def test_places_without_images(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("nothing")
    line = abs_command.refuses("classify", tmp_path / "empty", "--labels", "cat,dog")
    assert "there are no images in" in line
    assert "1 left out: not an image" in line
    assert "gone.jpg" in abs_command.refuses("classify", tmp_path / "gone.jpg", "--labels", "cat,dog")
