"""Files that end early, and files that were changed: an image or our error, in bounded time."""

from __future__ import annotations

import io
import time
import warnings
from contextlib import suppress
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encode, picture
from PIL import Image

from abs_classify.images import FORMATS, TRUNCATED, Truncated, load_image, upright_rgb
from abs_core.errors import ImageError

# with noise, so that pixels and not headers make most of a file
NOISE = np.random.default_rng(0).integers(0, 30, (180, 240, 3), dtype=np.uint8)
WHOLE = Image.fromarray(np.asarray(picture(240, 180)) // 2 + NOISE)
DEEP = Image.fromarray(np.asarray(WHOLE.convert("L")).astype(np.uint16) * 16)
FILES = {
    **{kind: encode(WHOLE, kind) for kind in FORMATS},
    "progressive": encode(WHOLE, "JPEG", progressive=True),
    "MPO": encode(WHOLE, "MPO", save_all=True, append_images=[WHOLE]),
    "alpha": encode(WHOLE.convert("RGBA"), "PNG"),
    "palette": encode(WHOLE.quantize(16), "PNG", transparency=3),
    "APNG": encode(WHOLE, "PNG", save_all=True, append_images=[WHOLE.rotate(180)]),
    "GIF frames": encode(WHOLE, "GIF", save_all=True, append_images=[WHOLE.rotate(180)]),
    "WEBP frames": encode(WHOLE, "WEBP", save_all=True, append_images=[WHOLE.rotate(180)]),
    "AVIF frames": encode(WHOLE, "AVIF", save_all=True, append_images=[WHOLE.rotate(180)]),
    "deep": encode(DEEP, "PNG"),
    "deep TIFF": encode(DEEP, "TIFF"),
    **{f"TIFF {packing}": encode(WHOLE, "TIFF", compression=packing) for packing in ("tiff_lzw", "jpeg", "packbits")},
    "exif": encode(WHOLE, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "GIF", "BMP", "TIFF", "PPM", "palette", "exif"])
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_what_there_is_of_a_cut_off_file_is_taken_if_that_is_wanted(kind: str, share: float) -> None:
    data = FILES[kind][: int(len(FILES[kind]) * share)]
    with pytest.raises(ImageError, match="cut off or damaged") as caught:
        load_image(data, "x")
    assert "--truncated accept" in str(caught.value)
    loaded = load_image(data, "x", truncated="accept")
    assert loaded.remarks == (TRUNCATED,)
    whole = np.asarray(load_image(FILES[kind]).pixels).astype(int)
    differs = np.abs(np.asarray(loaded.pixels) - whole).max(axis=-1) > 60
    assert differs.mean() < 1.1 - share
    assert load_image(FILES[kind], truncated="accept").remarks == ()


@pytest.mark.parametrize("missing", [1, 2, 3, 40])
@pytest.mark.parametrize("kind", ["JPEG", "progressive"])
def test_a_jpeg_without_its_last_bytes_is_nearly_the_whole(kind: str, missing: int) -> None:
    loaded = load_image(FILES[kind][:-missing], truncated="accept")
    whole = load_image(FILES[kind])
    assert np.abs(np.asarray(loaded.pixels).astype(int) - np.asarray(whole.pixels)).mean() < 6


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG2000", "TIFF tiff_lzw"])
def test_formats_that_are_read_as_a_whole_stay_errors(kind: str) -> None:
    with pytest.raises(ImageError, match="'x'"):
        load_image(FILES[kind][: len(FILES[kind]) * 4 // 5], "x", truncated="accept")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_file_that_ends_before_its_first_pixels_is_no_image(kind: str) -> None:
    with Image.open(io.BytesIO(FILES[kind])) as opened:
        header = opened.tile[0].offset if kind != "JPEG" else FILES[kind].index(b"\xff\xda") + 14
    with pytest.raises(ImageError, match="'x'"):
        load_image(FILES[kind][:header], "x", truncated="accept")


def test_an_opened_image_that_ends_early_can_be_taken_as_well() -> None:
    data = FILES["BMP"][:20_000]
    remarks: list[str] = []
    pixels = upright_rgb(Image.open(io.BytesIO(data)), "'x'", "accept", remarks)
    assert remarks == [TRUNCATED]
    assert pixels == load_image(data, truncated="accept").pixels


@pytest.mark.fuzz
@given(st.sampled_from(sorted(FILES)), st.data())
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_changed_files_give_an_image_or_our_error_in_bounded_time(kind: str, data: st.DataObject) -> None:
    changed = bytearray(FILES[kind])
    # headers first: there a byte decides sizes, counts and offsets
    places = st.integers(0, min(200, len(changed) - 1)) | st.integers(0, len(changed) - 1)
    for at in data.draw(st.lists(places, max_size=6)):
        changed[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)) | st.just(len(changed)))
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for truncated in get_args(Truncated):
            with suppress(ImageError):
                loaded = load_image(bytes(changed[:cut]), "x", truncated=truncated)
                assert loaded.pixels.mode == "RGB"
                assert min(loaded.pixels.size) > 0
    assert time.process_time() - start < 20
