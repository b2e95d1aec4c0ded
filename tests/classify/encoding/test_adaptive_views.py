"""Adaptive views: an image's views and result depend neither on what is encoded with it nor on what was stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from abs_classify.encoding.accelerator import Accelerator
from abs_classify.encoding.adaptive_views import AdaptiveMethod, ImageViews, ViewDecisions
from abs_classify.encoding.encoder import (
    EncodedImage,
    EncodingRequest,
    _Encoder,
    _on_accelerator,
    _on_cpu,
    encode_images,
    stream_images,
)
from abs_classify.images import LoadedImage
from abs_classify.methods.adaptive import GuaranteedRule, NormalRule, StoppingRule
from abs_classify.methods.class_texts import Sentences
from abs_classify.methods.scoring import ClassTextFeatures, HardMatch, MeanSimilarity, SoftMatch
from abs_classify.methods.similarity import unit
from abs_classify.methods.table import Method
from abs_classify.methods.views import AttentionCrops, FeatureWindows, Geometry, ViewSource
from abs_classify.models.base import Model

CROPS, WINDOWS = AttentionCrops(20, guided=False), FeatureWindows(20, guided=False)


class ColourModel:
    """A model whose tokens are the mean colours of 4 x 4 parts of the image, with nothing to load."""

    name, embed_dim, grid, crop_fraction = "colours", 3, 4, 1.0
    device = torch.device("cpu")

    def preprocess(self, image: Image.Image) -> Tensor:
        pixels = np.array(image.resize((8, 8), Image.Resampling.BOX), dtype=np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1) - 100

    preprocess_crop = preprocess

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))

    def tokens(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 2).flatten(2).transpose(1, 2)

    def pool(self, tokens: Tensor) -> Tensor:
        return tokens.mean(1)

    def pool_windows(self, tokens: Tensor, windows: Tensor) -> Tensor:
        grids = tokens.unflatten(1, (4, 4))
        return torch.stack(
            [
                torch.stack([grid[top:bottom, left:right].mean((0, 1)) for top, bottom, left, right in rows])
                for grid, rows in zip(grids, windows.tolist(), strict=True)
            ]
        )


MODEL = cast("Model", ColourModel())


@pytest.fixture(scope="module")
def images() -> list[LoadedImage]:
    rng = np.random.default_rng(3)
    coarse = rng.integers(60, 190, (13, 5, 5, 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels).resize((40, 30), Image.Resampling.NEAREST) for pixels in coarse]
    return [LoadedImage(f"sha256:{number}", picture) for number, picture in enumerate(pictures)]


@pytest.fixture(scope="module")
def texts() -> ClassTextFeatures:
    generator = torch.Generator().manual_seed(5)
    features = unit(torch.randn(12, 3, generator=generator))
    return ClassTextFeatures(features, torch.arange(6).repeat_interleave(2), features[:6])


def decisions_of(
    texts: ClassTextFeatures,
    *,
    cheap_windows: bool = True,
    rule: StoppingRule | None = None,
    least: int = 0,
    scorer: Any = None,
) -> ViewDecisions:
    views = (CROPS, WINDOWS)
    method = Method("m", "", views, Sentences(), scorer or SoftMatch(0.2))
    sources = method.adaptive_views(cheap_windows=cheap_windows)
    adaptive = AdaptiveMethod(method, texts, rule or NormalRule(0.9999), sources, {view: view for view in views})
    return ViewDecisions([adaptive], {CROPS: least})


def replay(decisions: ViewDecisions, features: Sequence[dict[ViewSource, Tensor]]) -> list[ImageViews]:
    replayed = [ImageViews(rows) for rows in features]
    decisions.advance(replayed)
    return replayed


def all_features(images: list[LoadedImage]) -> list[dict[ViewSource, Tensor]]:
    encoded = encode_images(MODEL, None, images, [CROPS, WINDOWS])
    return [{view: rows[number] for view, rows in encoded.features.items()} for number in range(len(images))]


def check(decisions: ViewDecisions, encoded: Sequence[EncodedImage], full: Sequence[dict[ViewSource, Tensor]]) -> None:
    """What was encoded is a prefix of all views, as long as the decisions on all views say."""
    expected = replay(decisions, full)
    for image, views, rows in zip(encoded, expected, full, strict=True):
        for view, count in decisions.wanted(views).items():
            assert len(image.features[view]) == count
            torch.testing.assert_close(image.features[view], rows[view][:count], rtol=0, atol=1e-6)
    again = replay(decisions, [dict(image.features) for image in encoded])
    for first, second in zip(again, expected, strict=True):
        assert first.results["m"].views == second.results["m"].views
        np.testing.assert_allclose(first.results["m"].scores, second.results["m"].scores, rtol=1e-5)


@pytest.mark.parametrize("device", ["cpu", "accelerator"])
@pytest.mark.parametrize("batch_size", [3, 64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("cheap_windows", [True, False])
def test_the_views_of_an_image_do_not_depend_on_batches_threads_or_device(
    images: list[LoadedImage],
    texts: ClassTextFeatures,
    device: str,
    batch_size: int,
    threads: int,
    cheap_windows: bool,
) -> None:
    torch.set_num_threads(threads)
    decisions = decisions_of(texts, cheap_windows=cheap_windows)
    encoder = _Encoder(MODEL, Geometry.of(MODEL, 8), None, [CROPS, WINDOWS], 0, batch_size, decisions)
    requests = map(EncodingRequest, images)
    if device == "cpu":
        groups = _on_cpu(encoder, requests)
    else:
        # the calls that a device gets, made on the processor
        groups = _on_accelerator(encoder, requests, Accelerator(MODEL, batch_size, None))
    encoded = [image for group in groups for image in group]
    full = all_features(images)
    check(decisions, encoded, full)
    counts = {len(image.features[CROPS]) for image in encoded}
    assert min(counts) < max(counts) == 20
    assert all(
        len(image.features[WINDOWS]) == (20 if cheap_windows else len(image.features[CROPS])) for image in encoded
    )


@pytest.mark.parametrize("count", [1, 2, 13])
def test_the_views_of_an_image_do_not_depend_on_the_others(
    images: list[LoadedImage], texts: ClassTextFeatures, count: int
) -> None:
    torch.set_num_threads(4)
    decisions = decisions_of(texts)
    some = images[::-1][:count]
    check(decisions, encode(decisions, map(EncodingRequest, some)), all_features(some))


def encode(decisions: ViewDecisions, requests: Iterator[EncodingRequest]) -> list[EncodedImage]:
    return list(stream_images(MODEL, None, requests, [CROPS, WINDOWS], decisions=decisions))


@pytest.mark.parametrize("known", [1, 4, 6, 20])
def test_known_views_are_replayed_and_not_encoded_again(
    images: list[LoadedImage], texts: ClassTextFeatures, known: int
) -> None:
    decisions = decisions_of(texts)
    full = all_features(images)
    requests = (
        EncodingRequest(image, {CROPS: known, WINDOWS: 20}, None, {CROPS: rows[CROPS][:known], WINDOWS: rows[WINDOWS]})
        for image, rows in zip(images, full, strict=True)
    )
    encoded = encode(decisions, requests)
    for image, views, rows in zip(encoded, replay(decisions, full), full, strict=True):
        assert not len(image.features[WINDOWS])
        wanted = decisions.wanted(views)[CROPS]
        torch.testing.assert_close(image.features[CROPS], rows[CROPS][known:wanted], rtol=0, atol=1e-6)


def test_other_methods_have_the_views_that_they_need(images: list[LoadedImage], texts: ClassTextFeatures) -> None:
    decisions = decisions_of(texts, least=10)
    encoded = encode(decisions, map(EncodingRequest, images))
    check(decisions, encoded, all_features(images))
    assert {len(image.features[CROPS]) for image in encoded} >= {10, 20}


@pytest.mark.parametrize(
    "scorer", [SoftMatch(0.2), MeanSimilarity(), HardMatch()], ids=lambda scorer: scorer.key()["matcher"]
)
def test_after_all_views_the_scores_are_those_of_the_full_run(
    images: list[LoadedImage], texts: ClassTextFeatures, scorer: Any
) -> None:
    decisions = decisions_of(texts, rule=GuaranteedRule(1 - 1e-12), scorer=scorer)
    full = all_features(images)
    want = scorer.scores(
        {"box": torch.stack([rows[CROPS] for rows in full]), "window": torch.stack([rows[WINDOWS] for rows in full])},
        texts,
    ).numpy()
    results = [views.results["m"] for views in replay(decisions, full)]
    complete = [number for number, result in enumerate(results) if result.views == 20]
    assert complete
    assert np.array_equal(np.stack([results[number].scores for number in complete]), want[complete])
    early = [number for number, result in enumerate(results) if result.views < 20]
    # predicted sums, on the scale of the full run's
    assert np.allclose([results[number].scores.sum() for number in early], want[early].sum(1), rtol=0.3)
