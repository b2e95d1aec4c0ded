"""Rows of the table against numbers that loops in float64 derived: stored ones, and through a small model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import golden_rows
import numpy as np
import pytest
import torch
from golden_rows import GRID, IMAGE_ID, ROWS, SIZE, attention_map, by_class, class_texts, features_of, kinds_of
from parity import within
from PIL import Image, ImageOps
from support import colour
from torch import Tensor

from abs_classify.encoding.encoder import encode_images
from abs_classify.images import LoadedImage
from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.similarity import unit
from abs_classify.methods.table import METHODS
from abs_classify.methods.views import Geometry, place_views

STORED: dict[str, Any] = json.loads(golden_rows.FILE.read_text(encoding="utf-8"))["rows"]
VOTES = {"zero", "zero-e", "abs-vote"}

#: of scores of about 100, and of about 1,000 for abs-aligned
TOLERANCE = {
    torch.float64: {"awt": 1e-7, "mta": 1e-7, "abs-aligned": 1e-6},
    torch.float32: {"awt": 1e-3, "mta": 1e-3, "abs-aligned": 5e-3},
}
rows = pytest.mark.parametrize("row", ROWS)


def text_features(row: str, features: Tensor) -> ClassTextFeatures:
    index = torch.tensor(class_texts(row).class_index)
    return ClassTextFeatures(
        features, index, features[[int((index == position).nonzero()[0]) for position in range(4)]]
    )


@rows
@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_scores_are_those_that_were_derived(row: str, dtype: torch.dtype) -> None:
    views = {kind: torch.tensor(values).to(dtype) for kind, values in features_of(kinds_of(row)).items()}
    texts = text_features(row, torch.tensor(golden_rows.text_features(class_texts(row).class_index)).to(dtype))
    scores = METHODS[row].scorer.scores(views, texts).double()  # type: ignore[union-attr]
    difference = float((scores - torch.tensor(STORED[row]["scores"], dtype=torch.float64)).abs().max())
    precision = str(dtype).removeprefix("torch.")
    assert within(f"rows, {precision}", row, difference, 0 if row in VOTES else TOLERANCE[dtype][row])


@rows
@pytest.mark.golden
def test_views_lie_where_they_were_derived(row: str) -> None:
    method = METHODS[row]
    placed = place_views(Geometry(GRID, 1.0), attention_map(), IMAGE_ID, SIZE, method.views)
    sampled = {view.kind: boxes.tolist() for view, boxes in placed.items() if view.kind != "whole"}
    assert sampled == STORED[row]["places"]


def test_what_is_stored_is_what_is_derived() -> None:
    derived = golden_rows.derive()["rows"]
    assert list(derived) == list(STORED)
    for row, stored in STORED.items():
        assert derived[row]["places"] == stored["places"]
        np.testing.assert_allclose(derived[row]["scores"], stored["scores"], rtol=1e-8)


class GivenAttention:
    """An attention backend that knows one map."""

    name, digest, grid = "given", "sha256:given", GRID

    def attend(self, images: Any) -> Tensor:
        return torch.tensor(attention_map()).float().expand(len(images), GRID, GRID)


def encoded_singly(model: Any, image: Image.Image, kind: str, places: list[list[int]]) -> Tensor:
    """Features of the views of one kind, cut and encoded one after the other."""
    if kind == "window":
        windows = torch.tensor(places)[None]
        pooled: Tensor = model.pool_windows_by_block(model.tokens(model.preprocess(image)[None]), windows)[0]
        return pooled
    features = []
    for left, upper, right, lower, *mirrored in places:
        crop = image.crop((left, upper, right, lower))
        if mirrored:
            crop = crop.resize((224, 224), Image.Resampling.BILINEAR)
            crop = ImageOps.mirror(crop) if mirrored[0] else crop
        features.append(model.encode_image(model.preprocess_crop(crop)[None]))
    return torch.cat(features)


@rows
@pytest.mark.golden
def test_an_image_goes_through_a_small_model(row: str, golden_model: Callable[[int], Any]) -> None:
    model, method, image = golden_model(GRID), METHODS[row], colour(5, SIZE)
    texts = class_texts(row)
    ids = np.random.RandomState(9).randint(1, 400, (len(texts.texts), 77))
    with torch.inference_mode():
        features = unit(model.encode_tokens(torch.tensor(ids)))
        encoded = encode_images(model, GivenAttention(), [LoadedImage(IMAGE_ID, image)], method.views)
        scores = method.scorer.scores(  # type: ignore[union-attr]
            method.views_by_kind(encoded.features), text_features(row, features)
        )[0]
        whole = [] if row == "abs-aligned" else [model.encode_image(model.preprocess(image)[None])]
        kinds = STORED[row]["places"].items()
        singly = torch.cat([*whole, *(encoded_singly(model, image, kind, places) for kind, places in kinds)])
    views, vectors = unit(singly.double()).numpy(), features.double().numpy()
    expected = golden_rows.SCORERS[row](views, by_class(vectors, texts.class_index))
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scores.double().numpy(), expected, rtol=0 if row in VOTES else 1e-4)
