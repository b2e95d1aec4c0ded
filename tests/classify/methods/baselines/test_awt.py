"""AWT against a second way to compute it: loops over classes, views and texts in float64, as its formulas stand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_vectors import texts_with, vectors
from golden_rows import transport

from abs_classify.methods.baselines.awt import AWT, transport_plan
from abs_classify.methods.scoring import ClassTextFeatures
from abs_core.errors import UsageError


@pytest.mark.parametrize("counts", [[4, 4, 4], [1, 5, 2, 3], [3], [1] * 6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 5e-3)])
def test_scores_are_those_of_the_formulas(counts: list[int], dtype: torch.dtype, tolerance: float) -> None:
    wide = texts_with(counts, shuffled=True)
    texts = ClassTextFeatures(wide.features.to(dtype), wide.class_index, wide.labels.to(dtype))
    views = {"whole": vectors(0, 3, 1, 32).to(dtype), "random": vectors(1, 3, 7, 32).to(dtype)}
    scores = AWT().scores(views, texts)
    assert scores.dtype == dtype
    features, owners = texts.features.double().numpy(), texts.class_index.numpy()
    by_class = [features[owners == position] for position in range(len(counts))]
    for image, row in enumerate(scores):
        stacked = torch.cat([views["whole"][image], views["random"][image]]).double().numpy()
        np.testing.assert_allclose(row.double().numpy(), transport(stacked, by_class), rtol=0, atol=tolerance)


def test_weights_of_classes_far_below_the_best_do_not_underflow() -> None:
    texts = texts_with([2, 2, 2])
    views = {"whole": texts.features[None, :1], "random": texts.features[None, 1:3]}
    scores = AWT(scale=900.0).scores(views, texts)
    assert scores.isfinite().all()
    np.testing.assert_allclose(
        scores[0].numpy(), transport(texts.features[:3].numpy(), list(texts.features.numpy().reshape(3, 2, -1)), 900.0),
        atol=1e-8,
    )  # fmt: skip


def test_a_plan_moves_what_leaves_rows_to_columns() -> None:
    kernel = torch.rand(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    kernel[1, :, 3] = 0
    rows, columns = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([[0.25] * 4, [0.5, 0.25, 0.25, 0]]).double()
    plan = transport_plan(kernel, rows, columns, rounds=1000, settled=1e-12)
    torch.testing.assert_close(plan.sum(1), columns)
    torch.testing.assert_close(plan.sum(2), rows.expand(2, -1))
    # one round leaves the rows wrong, and a coarse end comes early
    assert float((transport_plan(kernel, rows, columns, rounds=1).sum(2) - rows).abs().max()) > 1e-3
    assert float((transport_plan(kernel, rows, columns, settled=10.0).sum(2) - rows).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["scale", "view_temperature", "text_temperature", "epsilon", "rounds", "settled"])
def test_every_parameter_moves_the_scores_and_must_be_positive(name: str) -> None:
    texts = texts_with([2, 3, 2])
    views = {"whole": vectors(0, 2, 1, 32), "random": vectors(1, 2, 5, 32)}
    value = {"rounds": 1, "settled": 100.0}.get(name, 0.2)
    assert not torch.equal(AWT(**{name: value}).scores(views, texts), AWT().scores(views, texts))
    assert AWT(**{name: value}).key() != AWT().key()
    with pytest.raises(UsageError, match=f"the {name} of AWT must be above 0, got 0"):
        AWT(**{name: 0})


def test_the_full_image_comes_first() -> None:
    texts = texts_with([1, 1])
    with pytest.raises(UsageError, match="needs the full image"):
        AWT().scores({"random": vectors(0, 1, 2, 32)}, texts)
    with pytest.raises(UsageError, match="List the full image before the other views"):
        AWT().scores({"random": vectors(0, 1, 2, 32), "whole": vectors(0, 1, 1, 32)}, texts)
