"""Image files for tests: encoded pictures, and files that lie about themselves."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

__all__ = ["encode", "jpeg_of_scans", "picture", "png", "png_chunk"]


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file of an image."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture(width: int = 120, height: int = 90) -> Image.Image:
    """A picture with smooth parts, as photos have, and edges."""
    down, across = np.mgrid[0:height, 0:width]
    channels = [across * 255 // width, down * 255 // height, (across // 8 + down // 8) % 2 * 200]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def png_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, colour: int, raw: bytes, *chunks: tuple[bytes, bytes], depth: int = 8) -> bytes:
    """A PNG file of a colour type, with the bytes of its rows, and chunks that stand before them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    before = b"".join(png_chunk(name, data) for name, data in chunks)
    pixels = png_chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + header + before + pixels + png_chunk(b"IEND", b"")


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A grey progressive JPEG file that goes over its pixels as often as is wanted."""
    blocks = -(-width // 8) * -(-height // 8)
    # one code for a coefficient of zero, one for a run of 2**14 blocks or more without any
    tables = b"".join(
        b"\xff\xc4" + struct.pack(">HB", 20, number) + bytes([1] + [0] * 15) + value
        for number, value in ((0x00, b"\0"), (0x10, b"\xe0"))
    )
    bits = ("0" + "1" * 14) * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    run = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    start = b"\xff\xda" + struct.pack(">HB", 8, 1) + b"\1\0"
    return (
        b"\xff\xd8\xff\xdb"
        + struct.pack(">H", 67)
        + b"\0"
        + bytes([1] * 64)
        + b"\xff\xc2"
        + struct.pack(">HBHHB", 11, 8, height, width, 1)
        + b"\1\x11\0"
        + tables
        + (start + b"\0\0\0" + b"\0" * -(-blocks // 8))
        + (start + b"\1\1\0" + run) * scans
        + b"\xff\xd9"
    )
