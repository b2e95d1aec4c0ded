"""Files told apart by their first bytes, whatever they are called."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from abs_classify.image_formats import FORMATS, HEAD_BYTES, file_format
from abs_classify.images import load_image
from abs_core.errors import ImageError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def encoded(kind: str, image: Image.Image = NOISE, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_read_is_recognized(kind: str) -> None:
    found = file_format(encoded(kind)[:HEAD_BYTES])
    assert found is not None
    assert found.readable
    assert found.is_image


@pytest.mark.parametrize("kind", ["QOI", "ICO", "ICNS", "DDS", "PDF", "EPS"])
def test_what_pillow_could_read_or_write_beside_that_is_named(kind: str) -> None:
    data = encoded(kind)
    found = file_format(data)
    assert found is not None
    assert not found.readable
    with pytest.raises(ImageError, match=found.name):
        load_image(data, "x")


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_netpbm_of_every_kind_is_recognized(mode: str) -> None:
    found = file_format(encoded("PPM", NOISE.convert(mode)))
    assert found is not None
    assert found.name == "a Netpbm image"
    assert file_format(b"P2\n# a comment\n3 1\n9\n1 2 3") == found
    assert file_format(b"P2 is the name of a class") is None


def test_a_text_that_begins_like_a_bitmap_is_none() -> None:
    assert file_format(b"BMW 3 series, a car of the middle class, and more") is None


def ftyp(*brands: bytes) -> bytes:
    body = brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body + b"\0\0\0\x08free"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (ftyp(b"heic", b"mif1"), "a HEIF image (HEIC)"),
        (ftyp(b"mif1", b"miaf", b"heic"), "a HEIF image (HEIC)"),
        (ftyp(b"mif1", b"miaf", b"avif"), "an AVIF image"),
        (ftyp(b"avis", b"msf1"), "an AVIF image"),
        (ftyp(b"isom", b"mp42", b"avc1"), "a video"),
        (ftyp(b"crx ", b"isom"), "a camera raw image"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera raw image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"<?xml version='1.0'?>\n<!-- drawn by hand --><svg xmlns='x'/>", "an SVG drawing"),
        (b"\xef\xbb\xbf  <!DOCTYPE html><title>404</title>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer"),
        (b"RIFF\x10\0\0\0AVI LIST", "a video"),
        (b"\0" * 128 + b"DICM", "a DICOM image"),
    ],
)
def test_what_lies_between_images_is_named(data: bytes, name: str) -> None:
    found = file_format(data)
    assert found is not None
    assert found.name == name
    assert found.readable == (name == "an AVIF image")


@pytest.mark.fuzz
@given(st.binary(max_size=64), st.sampled_from([b"", b"BM", b"P3 ", b"\0\0\0\xffftyp", b"RIFF", b"<?xml", b"II*\0"]))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise(rest: bytes, prefix: bytes) -> None:
    found = file_format(prefix + rest)
    assert found is None or found.name
    # what follows the bytes that are looked at decides nothing
    padded = (prefix + rest).ljust(HEAD_BYTES, b"\0")
    assert file_format(padded + b"\x89PNG") == file_format(padded)
