"""Boxes, windows, ranges and probabilities against the numbers of the authors' code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import within
from support import GOLDEN

from abs_classify.methods.attention_focus import focus
from abs_classify.methods.views import (
    crop_ranges,
    feature_windows,
    map_centres,
    pixel_boxes,
    square_sides,
    window_range,
)

pytestmark = pytest.mark.golden


RUNS = sorted(GOLDEN.glob("grid*.npz"))

SIDES = [int(path.stem.removeprefix("grid")) for path in RUNS]

META = json.loads((GOLDEN / "meta.json").read_text(encoding="utf-8"))

SIZES = [(width, height) for width, height in META["photos"].values()]


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="module", params=RUNS, ids=lambda path: path.stem)
def run(request: pytest.FixtureRequest) -> tuple[int, dict[str, np.ndarray]]:
    return int(request.param.stem.removeprefix("grid")), arrays(request.param)


def agrees(name: str, found: np.ndarray, expected: np.ndarray, tolerance: float = 0) -> bool:
    assert found.shape == expected.shape
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64)).max()
    return within("places and probabilities", name, float(difference), tolerance)


def test_the_golden_runs_are_there() -> None:
    assert {7, 14} <= set(SIDES)
    assert list(META["photos"]) == ["p0_astronaut", "p1_coffee", "p2_chelsea", "p3_portrait", "p4_rocket"]


@pytest.mark.parametrize("kind", ["pix", "feat"])
def test_top_20_exact_and_probabilities_within_2e_5(run: tuple[int, dict[str, np.ndarray]], kind: str) -> None:
    _, golden = run
    for photo in range(len(SIZES)):
        found = focus(golden[f"{kind}_attn"][photo].reshape(14, 14))
        assert agrees(f"{kind}_top20_idx", found.index, golden[f"{kind}_top20_idx"][photo])
        assert agrees(f"{kind}_probs", found.probability, golden[f"{kind}_probs"][photo], 2e-5)
        assert agrees(f"{kind}_center14", found.index[golden[f"{kind}_draw"][photo]], golden[f"{kind}_center14"][photo])


def test_ranges_exact(run: tuple[int, dict[str, np.ndarray]]) -> None:
    side, golden = run
    for size, expected in zip(SIZES, golden["pix_crop_wh_range"], strict=True):
        assert agrees("pix_crop_wh_range", np.asarray(crop_ranges(size)), expected)
    assert agrees("feat_cropsize_range", np.asarray(window_range(side)), golden["feat_cropsize_range"])


def test_pixel_boxes_exact(run: tuple[int, dict[str, np.ndarray]]) -> None:
    _, golden = run
    for photo, size in enumerate(SIZES):
        found = pixel_boxes(size, golden["pix_center14"][photo], golden["pix_crop_wh"][photo])
        assert agrees("pix_boxes", found, golden["pix_boxes"][photo])


def test_centres_on_the_token_grid_exact(run: tuple[int, dict[str, np.ndarray]]) -> None:
    side, golden = run
    assert agrees("feat_center_grid", map_centres(golden["feat_center14"], 14, side), golden["feat_center_grid"])


def test_the_stored_border_cut_window_has_its_shape(run: tuple[int, dict[str, np.ndarray]]) -> None:
    side, golden = run
    crop, rows, columns = META["grids"][str(side)]["dbg_crop_and_window_rows_cols"]
    windows = feature_windows(golden["feat_center14"][0], 14, side, golden["feat_cropsize"][0])
    first_row, end_row, first_column, end_column = windows[crop]
    assert crop == golden["dbg_crop_index"]
    assert (end_row - first_row, end_column - first_column) == (rows, columns)


def test_every_box_of_the_table_exact() -> None:
    golden = arrays(GOLDEN / "boxes.npz")
    for (width, height), index, wh, box in zip(golden["size"], golden["idx"], golden["wh"], golden["box"], strict=True):
        assert agrees("boxes.npz, every box", pixel_boxes((int(width), int(height)), index, wh), box)


def test_the_table_of_boxes_catches_exact_arithmetic() -> None:
    # without the float32 product some boxes would differ: the test above would notice
    golden = arrays(GOLDEN / "boxes.npz")
    column = golden["idx"] % 14
    width = golden["size"][:, :1]
    start = column * width // 14
    centre = (start + np.minimum(start + width // 14, width)) // 2
    left = np.maximum(centre - golden["wh"][..., 0] // 2, 0)
    assert (left != golden["box"][..., 0]).sum() > 0


@pytest.mark.parametrize("side", [7, 14, 16])
def test_every_window_of_the_table_exact(side: int) -> None:
    golden = arrays(GOLDEN / "windows.npz")
    table = golden[f"grid{side}"].astype(np.int64)
    assert agrees("windows.npz, every window", feature_windows(table[:, 0], 14, side, table[:, 1]), table[:, 2:])
    assert set(table[:, 1]) == set(range(window_range(side)[0], window_range(side)[1] + 1))


@pytest.mark.parametrize("side", [7, 16])
def test_the_maps_between_grids_exact(side: int) -> None:
    golden = arrays(GOLDEN / "windows.npz")
    assert agrees(f"map14to{side}", map_centres(np.arange(196), 14, side), golden[f"map14to{side}"])


def test_the_authors_100_square_crops_exact() -> None:
    # WCA draws the scale from numpy's legacy generator and the place from torch's; ours has the same arithmetic
    golden = arrays(GOLDEN / "rivals" / "wca.npz")
    width, height = (int(side) for side in golden["crop_image_wh"])
    generator = torch.Generator().manual_seed(42)
    legacy = np.random.RandomState(42)
    for left, top, *sides in golden["crop_boxes_seed42"]:
        side = int(square_sides((width, height), np.array([legacy.uniform(0.1, 0.9)]))[0])
        assert sides == [side, side]
        assert top == torch.randint(0, height - side + 1, (1,), generator=generator).item()
        assert left == torch.randint(0, width - side + 1, (1,), generator=generator).item()
