"""Scores of CLIP, CuPL, CLIP-D, WaffleCLIP and WCA against those of the authors' code, in both precisions."""

from __future__ import annotations

import pytest
import torch
from feature_vectors import unit_texts
from golden_baselines import (
    SINGLE,
    C,
    agrees,
    both,
    descriptors,
    inputs,
    load,
    text_case,
    texts_of,
)

from abs_classify.methods import similarity as matching
from abs_classify.methods.scoring import CosineToMean, MeanSimilarity, Scorer

pytestmark = pytest.mark.golden


@both
@pytest.mark.parametrize("name", ["clip", "clip_e", "clip_d", "cupl", "waffle"])
def test_text_baselines(name: str, dtype: torch.dtype) -> None:
    raw, class_index = text_case(name, dtype)
    weights = matching.class_means(raw, class_index, C)
    assert agrees("text_baselines", f"W_{name}", weights.T, rows_are_scores=False)
    whole = matching.unit(inputs("views", dtype)[:, :1])
    assert agrees("text_baselines", f"sim_{name}", matching.cosine(whole[:, 0], weights))
    table = unit_texts(raw, class_index, inputs("label_text_raw", dtype))
    assert agrees("text_baselines", f"sim_{name}", CosineToMean().scores({"whole": whole}, table))


@both
@pytest.mark.parametrize(
    ("file", "name", "scorer"),
    [
        ("clipd", "sim_mean", MeanSimilarity()),
        ("waffle", "sim_mean", MeanSimilarity()),
        ("waffle", "sim_merge", CosineToMean()),
    ],
)
def test_clipd_and_waffle_as_in_their_own_papers(file: str, name: str, scorer: Scorer, dtype: torch.dtype) -> None:
    stream = inputs("stream", dtype)
    if file == "clipd":
        (raw, class_index), stream = descriptors(dtype), matching.unit(stream)
    else:
        raw, class_index = texts_of(torch.tensor(load("waffle")["waffle_text_raw"]).to(dtype))
    table = unit_texts(raw, class_index, inputs("label_text_raw", dtype))
    assert agrees(file, name, scorer.scores({"whole": stream[:, None]}, table))


@both
def test_clipd_bare_label_line(dtype: torch.dtype) -> None:
    labels = matching.unit(inputs("label_text_raw", dtype))
    assert agrees("clipd", "sim_label", matching.cosine(matching.unit(inputs("stream", dtype)), labels))


@both
@pytest.mark.parametrize("scale", [4, 2])
def test_wca_with_the_stored_samples(scale: int, dtype: torch.dtype) -> None:
    views = inputs("views", dtype)
    raw, class_index = texts_of(inputs("text_raw", dtype))
    weights = matching.weighted_texts(raw, class_index, inputs("label_text_raw", dtype), 2.0)
    assert agrees("wca", "W_text", weights.T, rows_are_scores=False)
    drawn = torch.tensor(load("wca")[f"crop_index_scale{scale}"])
    images = [matching.weighted_views(views[:, 0], views[:, 1:61], float(scale), index) for index in drawn]
    assert agrees("wca", f"sim_scale{scale}", matching.cosine(torch.stack(images), weights))


def test_wca_crop_cosines() -> None:
    views = matching.unit(inputs("views", SINGLE))
    got = torch.einsum("bd,bvd->bv", views[:, 0], views[:, 1:61])
    assert torch.allclose(got, torch.tensor(load("wca")["crop_weight"]), rtol=0, atol=1e-6)
