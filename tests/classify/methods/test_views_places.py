"""Placement on grids that 224 pixels do not divide evenly, and the keys of view sources, part by part."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from abs_classify.methods import views
from abs_classify.methods.attention_focus import default_top_k
from abs_classify.methods.views import (
    AttentionCrops,
    FeatureWindows,
    FullImage,
    Geometry,
    RandomCrops,
    crop_ranges,
    feature_windows,
    map_centres,
    pixel_boxes,
    place_views,
    window_range,
)
from abs_core.canonical import canonical_json


@pytest.mark.parametrize("width", [224, 236, 335, 500, 1021])
def test_boxes_on_a_grid_of_24_follow_the_formula(width: int) -> None:
    """ViT-L/14 at 336 pixels: patches of 9 1/3 of 224 pixels, where rounding and cutting part."""
    patch, scale, half = 224 / 24, width / 224, 10
    centres = []
    for column in range(24):
        start = int(np.float32(patch * column) * np.float32(scale))
        centres.append((start + min(start + int(patch * scale), width)) // 2)
    boxes = pixel_boxes((width, 300), np.arange(24), np.full((24, 2), 2 * half), grid=24)
    assert boxes[:, 0].tolist() == [max(centre - half, 0) for centre in centres]
    assert boxes[:, 2].tolist() == [min(centre + half, width) for centre in centres]


def test_a_grid_of_24_by_hand() -> None:
    wh = np.full((4, 2), 2)
    # 236 pixels: patches of 9.83 become 9; edges at 0, 9, 19, 29 and middles at 4, 13, 23, 33
    assert pixel_boxes((236, 236), np.arange(4), wh, grid=24)[:, 0].tolist() == [3, 12, 22, 32]
    assert window_range(24) == (14, 21)
    assert crop_ranges((24, 101)).tolist() == [[14, 21], [60, 90]]
    # 58.78 of 576 patches
    assert default_top_k(576) == 59
    places = [0, 1, 3, 5, 6, 8, 10, 12, 13, 15, 17, 18, 20, 22]
    assert map_centres(np.arange(14), 14, 24).tolist() == places
    assert map_centres(14 * np.arange(14), 14, 24).tolist() == [24 * place for place in places]
    assert feature_windows(np.array([0, 13]), 14, 24, np.array([14, 15])).tolist() == [[0, 8, 0, 8], [0, 8, 15, 24]]


CHANGES: dict[str, Any] = {
    "count": 7,
    "ratio": (0.2, 0.5),
    "top_k": 3,
    "temperature": 0.5,
    "alignment": "aligned",
    "guided": False,
}


@pytest.mark.parametrize("source", [RandomCrops(), AttentionCrops(), FeatureWindows()])
def test_each_parameter_of_a_source_changes_its_key(source: Any) -> None:
    changed = [replace(source, **{parameter.name: CHANGES[parameter.name]}) for parameter in fields(source)]
    assert len({canonical_json(view.key()) for view in (source, *changed)}) == 1 + len(fields(source))


def test_the_scheme_of_the_draws_is_part_of_the_key_of_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = (FullImage(), RandomCrops(), AttentionCrops(), FeatureWindows())
    before = [source.key() for source in sources]
    monkeypatch.setattr(views, "RANDOM_SCHEME", "another")
    assert [source.key() != key for source, key in zip(sources, before, strict=True)] == [False, True, True, True]


def test_crops_of_a_tiny_image_are_all_of_it_and_windows_stay() -> None:
    crops, windows = (AttentionCrops(5), RandomCrops(3)), FeatureWindows(4)
    attention = np.eye(7)
    for size, is_tiny in (((32, 32), True), ((55, 20), True), ((56, 56), False), ((20, 300), False)):
        placed = place_views(Geometry(7, 1.0, 224), attention, "sha256:a", size, [*crops, windows])
        usual = place_views(Geometry(7, 1.0), attention, "sha256:a", size, [*crops, windows])
        for crop in crops:
            assert placed[crop].shape == usual[crop].shape
            whole = (placed[crop] == [0, 0, *size]).all()
            assert bool(whole) == is_tiny
            assert is_tiny or (placed[crop] == usual[crop]).all()
        assert (placed[windows] == usual[windows]).all()
