"""Class probabilities of images: the definition, what they must not depend on, and which views enter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from feature_vectors import texts_with, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from abs_classify.methods import soft_matching
from abs_classify.methods.confidence import (
    TEMPERATURE,
    batch_class_probabilities,
    class_probabilities,
    confidence_views,
)
from abs_classify.methods.scoring import ClassTextFeatures
from abs_core.errors import ModelError, UsageError


def plain_probabilities(views: Tensor, texts: ClassTextFeatures, temperature: float) -> Tensor:
    """The definition, in loops over the views of one image and classes: [C]."""
    probabilities = torch.zeros(texts.classes, dtype=torch.float64)
    for view in views.double():
        z = texts.features.double() @ view / temperature
        shares = torch.stack([torch.exp(z[texts.class_index == c] - z.max()).mean() for c in range(texts.classes)])
        probabilities += shares / shares.sum() / len(views)
    return probabilities


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=9),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([1.0, 0.1, 0.03, 1e-4]),
    st.booleans(),
)
def test_probabilities_are_their_definition(
    counts: list[int], views: list[int], temperature: float, shuffled: bool
) -> None:
    texts = texts_with(counts, shuffled=shuffled)
    images = [vectors(position, number, 32) for position, number in enumerate(views)]
    want = torch.stack([plain_probabilities(image, texts, temperature) for image in images])
    got = batch_class_probabilities(images, texts, temperature)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)
    single = batch_class_probabilities([image.float() for image in images], single_precision(texts), temperature)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), want, rtol=0, atol=1e-6 / temperature)
    torch.testing.assert_close(single.sum(1), torch.ones(len(views)))


def single_precision(texts: ClassTextFeatures) -> ClassTextFeatures:
    return ClassTextFeatures(texts.features.float(), texts.class_index, texts.labels.float())


def test_blocks_of_views_and_texts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, images = texts_with([3, 1, 200, 7], shuffled=True), [vectors(5, count, 32) for count in (40, 1, 30)]
    want = torch.stack([plain_probabilities(image, texts, TEMPERATURE) for image in images])
    monkeypatch.setattr(soft_matching, "_block_sizes", lambda *_: (7, 64))
    torch.testing.assert_close(batch_class_probabilities(images, texts), want)


def test_the_order_of_views_texts_and_classes_decides_nothing() -> None:
    texts, views = texts_with([3, 1, 7]), vectors(5, 6, 32)
    want = class_probabilities(views, texts)
    torch.testing.assert_close(class_probabilities(views.flip(0), texts), want)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    mixed = replace(texts, features=texts.features[order], class_index=texts.class_index[order])
    torch.testing.assert_close(class_probabilities(views, mixed), want)
    turned = replace(texts, class_index=2 - texts.class_index, labels=texts.labels.flip(0))
    torch.testing.assert_close(class_probabilities(views, turned), want.flip(0))


def test_texts_that_are_repeated_change_nothing() -> None:
    """A class with many texts has no advantage: what counts is the mean over them."""
    texts, views = texts_with([1, 2, 4]), vectors(5, 6, 32)
    twice = replace(
        texts, features=texts.features.repeat(2, 1)[:8], class_index=torch.cat([texts.class_index, torch.tensor([0])])
    )
    torch.testing.assert_close(class_probabilities(views, twice), class_probabilities(views, texts))


def test_one_class_is_certain_and_equal_classes_share() -> None:
    views = vectors(5, 6, 32)
    assert class_probabilities(views, texts_with([3])).tolist() == pytest.approx([1.0])
    same = texts_with([1]).features.repeat(4, 1)
    texts = ClassTextFeatures(same, torch.arange(4), same)
    assert class_probabilities(views, texts).tolist() == pytest.approx([0.25] * 4)


def test_images_with_equally_many_views_may_come_as_one_tensor_or_by_kind() -> None:
    texts, views = texts_with([3, 1]), vectors(5, 2, 6, 32)
    want = torch.stack([class_probabilities(image, texts) for image in views])
    torch.testing.assert_close(class_probabilities(views, texts), want)
    kinds = {"window": vectors(6, 2, 3, 32), "box": views}
    torch.testing.assert_close(class_probabilities(kinds, texts), want)
    ragged = [{"box": views[0][:2], "window": views[0]}, {"whole": views[1][:1]}]
    got = batch_class_probabilities(ragged, texts)
    torch.testing.assert_close(got[0], class_probabilities(views[0][:2], texts))
    torch.testing.assert_close(got[1], class_probabilities(views[1][:1], texts))


def test_crops_enter_or_else_windows_or_else_the_full_image() -> None:
    assert confidence_views({"whole": 1, "window": 2, "box": 3}) == {"box": 3}
    assert confidence_views({"whole": 1, "random": 4}) == {"random": 4}
    assert confidence_views({"window": 2, "whole": 1}) == {"window": 2}
    assert confidence_views({"whole": 1}) == {"whole": 1}
    with pytest.raises(UsageError, match=r"known kind, got \['other'\]"):
        confidence_views({"other": 1})


def test_what_cannot_be_a_view_is_named() -> None:
    texts = texts_with([3, 1])
    with pytest.raises(UsageError, match="image 1 needs views"):
        batch_class_probabilities([vectors(5, 2, 32), vectors(5, 2, 32)[:0]], texts)
    broken = vectors(5, 2, 32)
    broken[1] = torch.nan
    with pytest.raises(ModelError, match="view 1"):
        class_probabilities(broken, texts)
    with pytest.raises(UsageError, match="temperature"):
        class_probabilities(vectors(5, 2, 32), texts, 0.0)
