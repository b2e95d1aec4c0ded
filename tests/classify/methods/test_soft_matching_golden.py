"""Soft matching gives the numbers that the authors' code gave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from feature_vectors import scaled, soft_tolerance
from parity import within
from support import GOLDEN
from torch import Tensor

from abs_classify.methods.scoring import ClassTextFeatures, SoftMatch
from abs_classify.methods.soft_matching import soft, soft_reference

pytestmark = pytest.mark.golden


@pytest.fixture(scope="session")
def softmatch() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "softmatch.npz") as stored:
        return dict(stored)


def case(stored: dict[str, np.ndarray], name: str) -> tuple[Tensor, Tensor, Tensor, int]:
    """Views, texts, class_index, classes of case a or b."""
    descriptions = stored["a_desc"] if name == "a" else stored["b_desc_int8"].astype(np.float32) / 256
    classes, count, dims = descriptions.shape
    class_index = torch.arange(classes).repeat_interleave(count)
    return torch.tensor(stored[f"{name}_features"]), torch.tensor(descriptions.reshape(-1, dims)), class_index, classes


def relative(got: Tensor, want: np.ndarray) -> float:
    return float(((got.double() - torch.tensor(want)) / torch.tensor(want)).abs().max())


def agrees(name: str, difference: float, tolerance: float) -> bool:
    return within("soft matching, relative", name, difference, tolerance)


@pytest.mark.parametrize("name", ["a", "b"])
def test_float64_scores_are_the_stored_ones(softmatch: dict[str, np.ndarray], name: str) -> None:
    views, texts, class_index, classes = case(softmatch, name)
    want = softmatch[f"{name}_logits_f64"]
    assert agrees(
        f"{name}_logits_f64, in float64",
        relative(soft(views.double(), texts.double(), class_index, classes), want),
        1e-13,
    )
    assert relative(soft_reference(views, texts, class_index, classes), want) < 1e-13


@pytest.mark.parametrize("name", ["a", "b"])
def test_float32_scores_are_nearer_to_float64_than_the_authors(softmatch: dict[str, np.ndarray], name: str) -> None:
    views, texts, class_index, classes = case(softmatch, name)
    got = soft(views, texts, class_index, classes)
    want = softmatch[f"{name}_logits_f64"]
    assert got.dtype == torch.float32
    assert agrees(f"{name}_logits_f64", scaled(got, torch.tensor(want)), soft_tolerance(views, texts))
    assert relative(got, want) < relative(torch.tensor(softmatch[f"{name}_logits"]), want)
    assert agrees(f"{name}_logits", relative(got, softmatch[f"{name}_logits"]), 1e-5)
    assert got.argmax(1).tolist() == softmatch[f"{name}_logits"].argmax(1).tolist()


@pytest.mark.parametrize("grid", sorted(int(path.stem[4:]) for path in GOLDEN.glob("grid*.npz")))
def test_logits_of_the_whole_method_from_the_stored_features(grid: int) -> None:
    with np.load(GOLDEN / f"grid{grid}.npz") as stored, np.load(GOLDEN / "text.npz") as texts:
        features = torch.tensor(texts["text_features"])
        classes, count, dims = features.shape
        class_index = torch.arange(classes).repeat_interleave(count)
        table = ClassTextFeatures(features.reshape(-1, dims), class_index, features[:, 0])
        views = {"window": torch.tensor(stored["feat_features"]), "box": torch.tensor(stored["pix_features"])}
        got = SoftMatch().scores(views, table)
        tolerance = soft_tolerance(torch.cat(list(views.values()), dim=1), table.features)
        assert agrees("logits_f64 of the stored features", scaled(got, torch.tensor(stored["logits_f64"])), tolerance)
        assert agrees("logits of the stored features", relative(got, stored["logits"]), 1e-5)
        assert got.argmax(1).tolist() == stored["logits_f64"].argmax(1).tolist()
