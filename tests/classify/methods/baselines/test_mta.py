"""MTA: the numbers of the public codes, within the tolerances that came with them, and its limits."""

from __future__ import annotations

import pytest
import torch
from feature_vectors import texts_with, vectors
from golden_baselines import agrees, both, inputs, split, table

from abs_classify.methods.baselines import MTA
from abs_classify.methods.baselines.mta import mta_mode
from abs_core.errors import UsageError


@pytest.mark.golden
@both
def test_mta(dtype: torch.dtype) -> None:
    views, texts = inputs("views", dtype), table(dtype)
    assert agrees("mta", "logits_own", MTA().scores(split(views), texts))
    assert agrees("mta", "logits_bench", MTA().scores(split(views), texts))
    assert agrees("mta", "logits_own_first16", MTA().scores(split(views[:, :16]), texts))
    density = mta_mode(views, texts.features)[1]
    assert agrees("mta", "weighted_density", density, rows_are_scores=False, tolerance="mta_density")


def test_mta_needs_five_views_and_survives_equal_ones() -> None:
    texts = texts_with([1, 1, 1])
    with pytest.raises(UsageError, match="4 views"):
        MTA().scores({"random": vectors(5, 2, 4, 32)}, texts)
    same = vectors(5, 2, 1, 32).expand(2, 9, 32)
    got = MTA().scores({"random": same}, texts)
    assert torch.allclose(got, 100 * same[:, 0] @ texts.features.T)


def test_mta_of_a_batch_is_that_of_each_image() -> None:
    texts, views = texts_with([1] * 6), vectors(5, 5, 20, 32)
    batch = MTA().scores({"random": views}, texts)
    single = torch.cat([MTA().scores({"random": image[None]}, texts) for image in views])
    assert torch.allclose(batch, single, rtol=1e-10)
