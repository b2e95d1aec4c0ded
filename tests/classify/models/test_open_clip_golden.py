"""Attention maps and features against the numbers of the authors' code (tests/golden), for every grid that is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from parity import within
from PIL import Image
from support import GOLDEN
from torch import Tensor

from abs_classify.models.attention import DinoAttention
from abs_classify.models.last_block import resize_table, view_matrices, window_tokens

GRIDS = sorted(int(path.stem.removeprefix("grid")) for path in GOLDEN.glob("grid*.npz"))

pytestmark = pytest.mark.golden

Arrays = Mapping[str, np.ndarray]


def worst(actual: Tensor, expected: np.ndarray) -> float:
    """The largest absolute difference of two arrays of one shape."""
    assert tuple(actual.shape) == expected.shape
    return float(np.abs(actual.double().numpy() - expected.astype(np.float64)).max())


def agrees(name: str, difference: float, tolerance: float) -> bool:
    return within("images, texts and features", name, difference, tolerance)


def unit(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features, dim=-1)


@pytest.fixture(scope="module")
def preprocess() -> Arrays:
    with np.load(GOLDEN / "preprocess.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def dino() -> DinoAttention:
    return DinoAttention(str(GOLDEN / "models" / "dino"))


@pytest.fixture(scope="module", params=GRIDS)
def run(request: pytest.FixtureRequest, golden_model: Callable[[int], Any]) -> tuple[Arrays, Any]:
    with np.load(GOLDEN / f"grid{request.param}.npz") as arrays:
        return dict(arrays), golden_model(request.param)


@pytest.fixture(scope="module")
def tokens(run: tuple[Arrays, Any], golden_photos: list[Image.Image]) -> Tensor:
    _, model = run
    return model.tokens(torch.stack([model.preprocess(photo) for photo in golden_photos]))


@pytest.fixture(scope="module")
def windows(run: tuple[Arrays, Any]) -> Tensor:
    """The windows of the stored centres and sizes: half the size to both sides of the centre, both ends kept, cut."""
    golden, model = run
    row, column = golden["feat_center_grid"] // model.grid, golden["feat_center_grid"] % model.grid
    half = golden["feat_cropsize"] // 2
    ends = [np.maximum(row - half, 0), row + half + 1, np.maximum(column - half, 0), column + half + 1]
    return torch.from_numpy(np.minimum(np.stack(ends, -1), model.grid))


def test_both_published_grids_are_there() -> None:
    assert {7, 14} <= set(GRIDS)


def test_dino_input(dino: DinoAttention, preprocess: Arrays, golden_photos: list[Image.Image]) -> None:
    pixels = torch.stack([dino.preprocess(photo) for photo in golden_photos])
    assert agrees("dino_pixel_values_sub16", worst(pixels[:, :, ::16, ::16], preprocess["dino_pixel_values_sub16"]), 0)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    levels = (pixels.permute(0, 2, 3, 1) * std + mean) * 255
    assert agrees("dino_u8", worst(levels.round(), preprocess["dino_u8"]), 0)


def test_attention_maps(dino: DinoAttention, run: tuple[Arrays, Any], golden_photos: list[Image.Image]) -> None:
    golden, _ = run
    pixels = torch.stack([dino.preprocess(photo) for photo in golden_photos])
    assert agrees("head_attn", worst(dino.heads(pixels).flatten(2), golden["head_attn"]), 2e-6)
    attention = dino.maps(pixels).flatten(1)
    assert agrees("pix_attn", worst(attention, golden["pix_attn"]), 2e-6)
    assert agrees("feat_attn", worst(attention, golden["feat_attn"]), 2e-6)
    assert agrees("pix_top20_idx", worst(attention.topk(20).indices, golden["pix_top20_idx"]), 0)


def test_clip_input(run: tuple[Arrays, Any], preprocess: Arrays, golden_photos: list[Image.Image]) -> None:
    golden, model = run
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])

    def levels(pixels: Tensor) -> Tensor:
        return ((pixels.permute(0, 2, 3, 1) * std + mean) * 255).round()

    pixels = torch.stack([model.preprocess(photo) for photo in golden_photos])
    assert agrees("clip_full_sub16", worst(pixels[:, :, ::16, ::16], preprocess["clip_full_sub16"]), 0)
    assert agrees("clip_full_u8", worst(levels(pixels), preprocess["clip_full_u8"]), 0)
    stored = preprocess.get(f"clip_pixcrop0_photos34_u8_grid{model.grid}")
    if stored is not None:
        boxes = golden["pix_boxes"][[3, 4], 0].tolist()
        crops = [photo.crop(tuple(box)) for photo, box in zip(golden_photos[3:], boxes, strict=True)]
        assert agrees(
            "clip_pixcrop0_photos34_u8",
            worst(levels(torch.stack([model.preprocess_crop(crop) for crop in crops])), stored),
            0,
        )


def test_input_of_the_last_block(run: tuple[Arrays, Any], tokens: Tensor, windows: Tensor) -> None:
    golden, model = run
    assert agrees("last_block_in_full", worst(tokens[0], golden["last_block_in_full"]), 1e-4)
    rows, columns = view_matrices(resize_table(model.grid, torch.device("cpu")), windows)
    crop = int(golden["dbg_crop_index"])
    assert agrees(
        "last_block_in_crop", worst(window_tokens(tokens, rows, columns)[0, crop], golden["last_block_in_crop"]), 1e-4
    )


def test_global_features(run: tuple[Arrays, Any], tokens: Tensor) -> None:
    golden, model = run
    features = model.pool(tokens)
    assert agrees("global_raw", worst(features, golden["global_raw"]), 1e-4)
    assert agrees("global_feature", worst(unit(features), golden["global_feature"]), 1e-5)


@pytest.mark.parametrize("path", ["pool_windows", "pool_windows_by_block"])
def test_feature_views(run: tuple[Arrays, Any], tokens: Tensor, windows: Tensor, path: str) -> None:
    golden, model = run
    features = getattr(model, path)(tokens, windows)
    assert agrees("feat_raw", worst(features, golden["feat_raw"]), 1e-4)
    assert agrees("feat_features", worst(unit(features), golden["feat_features"]), 1e-5)


@pytest.mark.slow
def test_pixel_views(run: tuple[Arrays, Any], golden_photos: list[Image.Image]) -> None:
    golden, model = run
    for photo, boxes, raw, features in zip(
        golden_photos, golden["pix_boxes"], golden["pix_raw"], golden["pix_features"], strict=True
    ):
        crops = [model.preprocess_crop(photo.crop(tuple(box))) for box in boxes.tolist()]
        encoded = model.encode_image(torch.stack(crops))
        assert agrees("pix_raw", worst(encoded, raw), 1e-4)
        assert agrees("pix_features", worst(unit(encoded), features), 1e-5)


def test_text_features(run: tuple[Arrays, Any]) -> None:
    _, model = run
    with np.load(GOLDEN / "text.npz") as text:
        encoded = model.encode_tokens(torch.from_numpy(text["tokens"]).long().flatten(0, 1))
        encoded = encoded.reshape(text["text_raw"].shape)
        assert agrees("text_raw", worst(encoded, text["text_raw"]), 1e-4)
        assert agrees("text_features", worst(unit(encoded), text["text_features"]), 1e-5)
