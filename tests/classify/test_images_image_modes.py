"""Grey of odd depths, alpha channels that hide everything, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import encode, picture, png
from PIL import Image

from abs_classify.images import content_remarks, load_image, to_rgb

GREY = np.asarray(picture().convert("L")).astype(np.float64) / 255


def deep(bits: int, dtype: type = np.uint16) -> Image.Image:
    """The grey picture with so many significant bits."""
    return Image.fromarray(np.rint(GREY / GREY.max() * ((1 << bits) - 1)).astype(dtype))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_fewer_significant_bits_looks_as_it_should(kind: str, bits: int) -> None:
    loaded = load_image(encode(deep(bits), kind))
    full = load_image(encode(deep(16), kind))
    assert np.abs(np.asarray(loaded.pixels).astype(int) - np.asarray(full.pixels)).max() <= 1
    said = (f"grey of {bits} significant bits in 16, scaled by these",) if bits < 16 else ()
    assert loaded.remarks == said


def test_grey_whose_zero_is_white_is_shown_so_at_every_depth() -> None:
    white_is_zero = {"tiffinfo": {262: 0}}
    expected = np.asarray(load_image(encode(deep(16), "TIFF")).pixels).astype(int)
    for bits in (12, 16):
        data = encode(Image.fromarray((1 << bits) - 1 - np.asarray(deep(bits))), "TIFF", **white_is_zero)
        assert np.abs(np.asarray(load_image(data).pixels) - expected).max() <= 1


def test_grey_in_32_bits_is_judged_as_in_16() -> None:
    loaded = load_image(encode(deep(12, np.int32), "TIFF"))
    assert loaded.remarks == ("grey of 12 significant bits in 16, scaled by these",)
    assert np.asarray(loaded.pixels).max() == 255


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-1.0, 1.0), (0.0, 70_000.0)])
def test_other_ranges_are_said(low: float, high: float) -> None:
    values = (low + (high - low) * GREY / GREY.max()).astype(np.float32)
    loaded = load_image(encode(Image.fromarray(values), "TIFF"))
    assert loaded.remarks == ("grey scaled from the image's own range to 8 bits",)
    assert load_image(encode(Image.fromarray(GREY.astype(np.float32)), "TIFF")).remarks == ()


def test_large_images_are_converted_in_bands_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = picture().convert("RGBA")
    alpha.putalpha(Image.fromarray((GREY * 255).astype(np.uint8)))
    for image in (alpha, deep(12), deep(16), alpha.convert("LA")):
        whole = to_rgb(image, [])
        with monkeypatch.context() as patch:
            patch.setattr("abs_classify.images._BAND_PIXELS", 7 * image.width)
            assert to_rgb(image, []) == whole


@pytest.mark.parametrize("alpha", [0, 1, 7])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_an_alpha_channel_that_hides_everything_is_left_out(kind: str, alpha: int) -> None:
    image = picture().convert("RGBA")
    image.putalpha(alpha)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    loaded = load_image(encode(image, kind, **options))
    assert loaded.pixels == picture()
    assert loaded.remarks == ("shown without transparency: no pixel would be visible",)


def test_a_palette_that_is_transparent_throughout_shows_its_colours() -> None:
    image = picture().quantize(8)
    loaded = load_image(encode(image, "PNG", transparency=bytes(8)))
    assert loaded.pixels == image.convert("RGB")
    assert loaded.remarks == ("shown without transparency: no pixel would be visible",)


def test_one_visible_pixel_makes_the_rest_white() -> None:
    image = picture().convert("RGBA")
    image.putalpha(0)
    image.putpixel((3, 3), (10, 20, 30, 255))
    loaded = load_image(encode(image, "PNG"))
    assert loaded.pixels.getpixel((0, 0)) == (255, 255, 255)
    assert loaded.pixels.getpixel((3, 3)) == (10, 20, 30)
    assert loaded.remarks == ()


def test_images_without_content_are_named_and_others_are_not() -> None:
    dark = picture().point(lambda value: value // 17)
    assert content_remarks(picture()) == []
    assert content_remarks(Image.new("RGB", (40, 30), "navy")) == ["of a single colour"]
    assert content_remarks(dark) == ["nearly black: no value is above 15 of 255"]
    assert content_remarks(Image.new("RGB", (1, 1))) == []
    speck = Image.new("RGB", (900, 700))
    speck.putpixel((1, 1), (255, 0, 0))
    assert content_remarks(speck) == []


def test_colour_of_few_bits_in_sixteen_is_named() -> None:
    values = (np.asarray(picture()).astype(np.uint16) // 17)[..., ::-1].astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    loaded = load_image(png(120, 90, 2, rows, depth=16))
    assert loaded.remarks == ("of a single colour",)
