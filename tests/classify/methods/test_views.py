"""Views beyond the golden numbers: frozen places, prefixes, odd images, other grids, bad input."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_classify.methods.attention_focus import default_top_k, focus
from abs_classify.methods.views import (
    AttentionCrops,
    FeatureWindows,
    FullImage,
    RandomCrops,
    align_centres,
    crop_ranges,
    map_centres,
    pixel_boxes,
    window_range,
)
from abs_core.canonical import canonical_json
from abs_core.errors import ModelError, UnknownNameError, UsageError

IMAGE = "sha256:" + "0" * 64

RISING = np.arange(196, dtype=np.float64).reshape(14, 14) / 196 / 20


def noise(side: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((side, side)).astype(np.float32) / side**2


def test_frozen_places() -> None:
    assert RandomCrops(3).boxes((640, 480), 0, IMAGE).tolist() == [
        [516, 55, 638, 177],
        [239, 144, 421, 326],
        [66, 3, 419, 356],
    ]
    assert AttentionCrops(3).boxes((640, 480), RISING, 0, IMAGE).tolist() == [
        [169, 303, 640, 480],
        [349, 238, 640, 480],
        [407, 237, 640, 480],
    ]
    assert FeatureWindows(3).windows(7, RISING, 0, IMAGE, (640, 480)).tolist() == [
        [4, 7, 3, 7],
        [3, 7, 3, 7],
        [4, 7, 4, 7],
    ]


@pytest.mark.parametrize("few", [1, 2, 20, 49])
def test_the_first_n_of_50_views_are_a_prefix(few: int) -> None:
    size, attention = (451, 300), noise(14)
    for source in (RandomCrops, AttentionCrops):
        arguments = (size,) if source is RandomCrops else (size, attention)
        many = source(50).boxes(*arguments, 1, IMAGE)
        np.testing.assert_array_equal(source(few).boxes(*arguments, 1, IMAGE), many[:few])
    many = FeatureWindows(50).windows(16, attention, 1, IMAGE, size)
    np.testing.assert_array_equal(FeatureWindows(few).windows(16, attention, 1, IMAGE, size), many[:few])


def test_views_do_not_depend_on_what_was_drawn_before() -> None:
    attention = noise(14)
    alone = {name: AttentionCrops(5).boxes((300, 200), attention, 0, name) for name in ("a", "b", "c")}
    np.random.seed(1)
    for name in ("c", "a", "b", "a"):
        np.testing.assert_array_equal(AttentionCrops(5).boxes((300, 200), attention, 0, name), alone[name])
    assert not np.array_equal(alone["a"], alone["b"])


def test_focus_sorts_and_sums_to_one() -> None:
    chosen = focus(noise(10), top_k=7, temperature=0.01)
    assert chosen.index.shape == (7,)
    assert (np.diff(noise(10).ravel()[chosen.index]) < 0).all()
    assert chosen.probability.sum() == pytest.approx(1, abs=1e-15)
    ratio = np.exp((noise(10).ravel()[chosen.index[0]] - noise(10).ravel()[chosen.index[6]]).astype(np.float64) / 0.01)
    assert chosen.probability[0] / chosen.probability[6] == pytest.approx(ratio, rel=1e-6)


@pytest.mark.parametrize(("cells", "kept"), [(196, 20), (100, 10), (256, 26), (49, 5), (9, 1), (1, 1)])
def test_a_tenth_of_the_patches_unless_told(cells: int, kept: int) -> None:
    assert default_top_k(cells) == kept


def test_a_map_without_a_preference_means_every_patch() -> None:
    chosen = focus(np.full((14, 14), 0.25), top_k=20)
    assert chosen.index.tolist() == list(range(196))
    np.testing.assert_allclose(chosen.probability, 1 / 196)


def test_a_very_sharp_map_does_not_overflow() -> None:
    attention = np.zeros((4, 4))
    attention[2, 1] = 1e6
    chosen = focus(attention, top_k=1, temperature=1e-3)
    assert (chosen.index.tolist(), chosen.probability.tolist()) == ([9], [1.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_attention_that_is_not_finite(value: float) -> None:
    attention = noise(14)
    attention[3, 4] = value
    for place in (
        lambda: focus(attention),
        lambda: AttentionCrops().boxes((64, 64), attention, 0, IMAGE),
        lambda: FeatureWindows().windows(14, attention, 0, IMAGE, (64, 64)),
    ):
        with pytest.raises(ModelError, match="NaN or infinity in 1 of its 196 patches"):
            place()


@pytest.mark.parametrize("shape", [(196,), (14, 13), (1, 14, 14), (0, 0)])
def test_attention_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"must have the shape \[g, g\], got \[[0-9, ]+\]"):
        focus(np.zeros(shape))


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    side=st.sampled_from([1, 7, 10, 14, 16, 24, 28, 37]),
    seed=st.integers(0, 50),
    aligned=st.booleans(),
    guided=st.booleans(),
)
def test_boxes_of_any_image_lie_inside_and_hold_a_pixel(
    width: int, height: int, side: int, seed: int, aligned: bool, guided: bool
) -> None:
    source = AttentionCrops(8, alignment="aligned" if aligned else "reference", guided=guided)
    for box in (
        source.boxes((width, height), noise(side), seed, IMAGE),
        RandomCrops(8).boxes((width, height), seed, IMAGE),
    ):
        assert box.shape == (8, 4)
        assert box.dtype == np.int64
        assert (box[:, :2] >= 0).all()
        assert (box[:, 2] <= width).all()
        assert (box[:, 3] <= height).all()
        assert (box[:, 2:] > box[:, :2]).all()


def test_a_one_pixel_image_gives_that_pixel() -> None:
    for boxes in (AttentionCrops(4).boxes((1, 1), noise(14), 0, IMAGE), RandomCrops(4).boxes((1, 1), 0, IMAGE)):
        assert boxes.tolist() == [[0, 0, 1, 1]] * 4
    assert crop_ranges((1, 1)).tolist() == [[1, 1], [1, 1]]


def test_an_odd_crop_size_loses_a_pixel_and_borders_cut() -> None:
    centre, wh = np.array([7 * 14 + 7, 0]), np.array([[81, 80], [80, 81]])
    # 7 * 16 = 112 of 224, patch 112..128, centre 120; first patch 0..16, centre 8
    assert pixel_boxes((224, 224), centre, wh).tolist() == [[80, 80, 160, 160], [0, 0, 48, 48]]


def test_random_crops_are_squares_within_the_ratio() -> None:
    boxes = RandomCrops(500, ratio=(0.25, 0.5)).boxes((400, 200), 0, IMAGE)
    side = boxes[:, 2] - boxes[:, 0]
    np.testing.assert_array_equal(side, boxes[:, 3] - boxes[:, 1])
    assert side.min() >= 50
    assert side.max() <= 100
    assert boxes[:, 2].max() > 380
    assert boxes[:, 3].max() > 190


def test_other_attention_grids_use_their_own_patches() -> None:
    wh = np.full((4, 2), 20)
    # a grid of 7 has patches of 32 pixels at 224: centres 16, 48, ...; a grid of 28 has patches of 8
    assert pixel_boxes((224, 224), np.arange(4), wh, grid=7)[:, 0].tolist() == [6, 38, 70, 102]
    assert pixel_boxes((224, 224), np.arange(4), wh, grid=28)[:, 2].tolist() == [14, 22, 30, 38]


def test_aligned_boxes_have_the_exact_centre_and_nothing_else_changes() -> None:
    # 496 pixels: column 7 is one of the places where float32 rounds below the patch edge of 248
    centre, wh = np.arange(14), np.full((14, 2), 100)
    exact = pixel_boxes((496, 331), centre, wh, alignment="aligned")
    middle = [int((column + 0.5) * 496 / 14) for column in range(14)]
    assert exact[:, 0].tolist() == [max(x - 50, 0) for x in middle]
    assert exact[:, 2].tolist() == [min(x + 50, 496) for x in middle]
    assert np.abs(exact - pixel_boxes((496, 331), centre, wh)).max() == 1


def test_unguided_views_need_no_attention_and_reach_every_patch() -> None:
    attention = noise(14)
    boxes = AttentionCrops(20, guided=False)
    np.testing.assert_array_equal(boxes.boxes((90, 80), None, 0, IMAGE), boxes.boxes((90, 80), attention, 0, IMAGE))
    # windows of one token show the drawn centres: all 256 of the model's own grid, rows 7 and 15 among them
    windows = FeatureWindows(4000, ratio=(0.01, 0.01), guided=False).windows(16, None, 0, IMAGE, (90, 80))
    assert len({tuple(window) for window in windows}) == 256
    assert not boxes.needs_attention
    assert AttentionCrops().needs_attention


@settings(max_examples=200, deadline=None)
@given(
    grid=st.integers(1, 40),
    side=st.integers(1, 40),
    seed=st.integers(0, 20),
    size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    crop=st.sampled_from([1.0, 0.875, None]),
    aligned=st.booleans(),
)
def test_windows_lie_in_the_grid_and_hold_a_token(
    grid: int, side: int, seed: int, size: tuple[int, int], crop: float | None, aligned: bool
) -> None:
    source = FeatureWindows(8, alignment="aligned" if aligned else "reference")
    windows = source.windows(grid, noise(side), seed, IMAGE, size, crop)
    assert windows.shape == (8, 4)
    assert (windows[:, [0, 2]] >= 0).all()
    assert (windows[:, [1, 3]] <= grid).all()
    assert (windows[:, [1, 3]] > windows[:, [0, 2]]).all()


def test_a_square_image_is_aligned_already() -> None:
    every = np.arange(196)
    np.testing.assert_array_equal(align_centres(every, 14, 14, (300, 300)), map_centres(every, 14, 14))
    np.testing.assert_array_equal(align_centres(every, 14, 7, (300, 300)), map_centres(every, 14, 7))


def test_alignment_of_a_wide_image() -> None:
    # twice as wide as high: the model sees the middle half, so patch columns 3.5 to 10.5 fill its grid
    columns = align_centres(np.arange(14), 14, 14, (400, 200)) % 14
    assert columns.tolist() == [0, 0, 0, 0, 2, 4, 6, 8, 10, 12, 13, 13, 13, 13]
    rows = align_centres(np.arange(14) * 14 + 7, 14, 14, (400, 200)) // 14
    assert rows.tolist() == list(range(14))


def test_alignment_with_a_smaller_central_crop_and_with_none() -> None:
    every = np.arange(10)
    # 0.875 of a square: the patch centre at 5 % of the side lies outside the crop and goes to its first token
    assert (align_centres(every, 10, 7, (200, 200), 0.875) % 7).tolist() == [0, 0, 1, 2, 3, 3, 4, 5, 6, 6]
    np.testing.assert_array_equal(align_centres(every, 10, 10, (900, 200), None), every)


def test_alignment_changes_windows_of_wide_images_only() -> None:
    for size, same in (((300, 300), True), ((600, 300), False)):
        reference = FeatureWindows().windows(14, noise(14), 0, IMAGE, size)
        aligned = FeatureWindows(alignment="aligned").windows(14, noise(14), 0, IMAGE, size)
        assert np.array_equal(reference, aligned) is same


@pytest.mark.parametrize(("grid", "expected"), [(14, (8, 12)), (7, (4, 6)), (16, (9, 14)), (2, (1, 1)), (1, (1, 1))])
def test_window_ranges(grid: int, expected: tuple[int, int]) -> None:
    assert window_range(grid) == expected


@pytest.mark.parametrize("source", [FullImage(), RandomCrops(), AttentionCrops(), FeatureWindows(count=7, top_k=3)])
def test_keys_are_json_and_tell_sources_apart(source: Any) -> None:
    key = source.key()
    assert json.loads(canonical_json(key)) == key
    assert key["kind"] == source.kind
    assert source in {source}
    others = [RandomCrops(61), AttentionCrops(alignment="aligned"), FeatureWindows(guided=False)]
    assert all(canonical_json(other.key()) != canonical_json(key) for other in others)


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (RandomCrops, {"count": 0}, "count of the view source 'random' must be a whole number of at least 1, got 0"),
        (AttentionCrops, {"count": -1}, "count of the view source 'box' must be a whole number of at least 1, got -1"),
        (
            FeatureWindows,
            {"count": 2.5},
            "count of the view source 'window' must be a whole number of at least 1, got 2.5",
        ),
        (AttentionCrops, {"top_k": 0}, "top_k of the view source 'box' must be a whole number of at least 1, got 0"),
        (FeatureWindows, {"temperature": 0.0}, "temperature of the view source 'window' must be above 0, got 0.0"),
        (
            AttentionCrops,
            {"temperature": float("nan")},
            "temperature of the view source 'box' must be .* got nan",
        ),
        (AttentionCrops, {"ratio": (0.9, 0.6)}, r"ratio of the view source 'box' must satisfy .*, got \(0.9, 0.6\)"),
        (FeatureWindows, {"ratio": (0.0, 0.6)}, r"ratio of the view source 'window' must satisfy .*, got \(0.0, 0.6\)"),
        (RandomCrops, {"ratio": (0.1, 1.1)}, r"ratio of the view source 'random' must satisfy .*, got \(0.1, 1.1\)"),
        (RandomCrops, {"ratio": (0.1, float("nan"))}, "ratio of the view source 'random'"),
    ],
)
def test_bad_parameters_are_named_with_their_value(source: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        source(**arguments)
    assert caught.value.remedy


def test_an_unknown_alignment_lists_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match="valid: reference, aligned"):
        AttentionCrops(alignment="exact")  # type: ignore[arg-type]


def test_more_patches_wanted_than_there_are() -> None:
    with pytest.raises(UsageError, match="top_k must be from 1 to 49, the patches of the attention map, got 50"):
        AttentionCrops(top_k=50).boxes((64, 64), noise(7), 0, IMAGE)


@pytest.mark.parametrize(
    ("top_k", "temperature", "named"),
    [(0, 0.03, "top_k must be .* got 0"), (5, 0, "temperature must be .* got 0")],
)
def test_focus_checks_its_parameters(top_k: int, temperature: float, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        focus(noise(7), top_k, temperature)


def test_guided_views_without_attention() -> None:
    with pytest.raises(UsageError, match="'box' is guided by attention, and there is no attention map"):
        AttentionCrops().boxes((64, 64), None, 0, IMAGE)
    with pytest.raises(UsageError, match="'window' is guided by attention"):
        FeatureWindows().windows(14, None, 0, IMAGE, (64, 64))
