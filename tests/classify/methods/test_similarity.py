"""Class means and the weights of WCA."""

from __future__ import annotations

import torch
from feature_vectors import texts_with, views_of

from abs_classify.methods import similarity as matching


def test_a_class_mean_normalises_before_and_after() -> None:
    features = torch.tensor([[10.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    means = matching.class_means(features, torch.tensor([0, 0, 1]), 2)
    assert torch.allclose(means, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))


def test_wca_uses_every_crop_once_unless_told() -> None:
    views = views_of()
    whole, crops = views["whole"][:, 0], views["random"]
    every = matching.weighted_views(whole, crops, 4.0, torch.arange(7))
    assert torch.allclose(matching.weighted_views(whole, crops, 4.0), every, rtol=0, atol=1e-15)
    twice = matching.view_weights(whole, crops, 4.0, torch.tensor([1, 1, 2]))
    assert torch.allclose(twice.sum(1), torch.ones(3, dtype=torch.float64))
    assert (twice[:, [0, 3, 4, 5, 6]] == 0).all()


def test_wca_weights_stay_finite_at_large_scales() -> None:
    texts = texts_with([3, 5])
    weights = matching.text_weights(texts.features, texts.class_index, texts.labels, 8.0)
    assert torch.allclose(matching.class_sums(weights, texts.class_index, 2), torch.ones(2, dtype=torch.float64))
