"""Thumbnails, the colour map and overlays."""

from __future__ import annotations

import base64
import io

import numpy as np
import PIL.Image
import pytest

from abs_classify.report.drawing import heat_colours, heat_overlay, jpeg_uri, levels, peak_words, thumbnail


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "1"])
def test_every_image_mode_becomes_a_jpeg(mode):
    uri = jpeg_uri(PIL.Image.new(mode, (40, 20)), 360)
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (40, 20))


def test_transparent_pixels_are_white_and_thumbnails_keep_their_aspect():
    assert thumbnail(PIL.Image.new("RGBA", (800, 400), (0, 0, 0, 0)), 360).getpixel((5, 5)) == (255, 255, 255)
    assert thumbnail(PIL.Image.new("RGB", (800, 400)), 360).size == (360, 180)


def test_the_colour_map_gets_lighter_all_the_way():
    rgb = heat_colours() / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lightness = np.cbrt(linear @ np.array([0.2126, 0.7152, 0.0722]))
    assert (np.diff(lightness) > -0.002).all()
    # even steps: no quarter of the map holds less than a seventh of the range
    quarters = np.diff(lightness[[0, 64, 128, 192, 255]])
    assert quarters.min() > (lightness[-1] - lightness[0]) / 7
    assert heat_colours().shape == (256, 3)


def test_the_overlay_is_strongest_where_the_attention_is():
    attention = np.zeros((14, 14))
    attention[2, 11] = 5.0
    overlay = np.asarray(heat_overlay(attention).convert("RGBA"))
    row, column = np.unravel_index(overlay[..., 3].argmax(), overlay.shape[:2])
    assert (row * 14 // 64, column * 14 // 64) == (2, 11)
    assert overlay[0, 0, 3] < overlay[row, column, 3] < 255
    assert levels(np.full((3, 3), 7.0)).max() == 0


@pytest.mark.parametrize(
    ("cell", "words"),
    [((0, 0), "the upper left"), ((7, 7), "the centre"), ((13, 7), "the lower middle"), ((7, 13), "the right middle")],
)
def test_the_peak_in_words(cell, words):
    attention = np.zeros((14, 14))
    attention[cell] = 1
    assert peak_words(attention) == words
