"""Class probabilities of images and how well they fit the label space: definitions, and what decides nothing."""

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
    CommonNames,
    ConfidenceViews,
    class_probabilities,
    known_scores,
)
from abs_classify.methods.scoring import ClassTextFeatures
from abs_core.errors import ModelError, UsageError

TEMPERATURE = 0.1


def plain_probabilities(image: ConfidenceViews, texts: ClassTextFeatures, temperature: float) -> Tensor:
    """The definition, in loops over the views of one image and classes: [C]."""
    probabilities = torch.zeros(texts.classes, dtype=torch.float64)
    for view, weight in zip(image.features.double(), image.weights.double(), strict=True):
        z = texts.features.double() @ view / temperature
        shares = torch.stack([torch.exp(z[texts.class_index == c] - z.max()).mean() for c in range(texts.classes)])
        probabilities += weight * shares / shares.sum()
    return probabilities


def crops(seed: int, count: int) -> ConfidenceViews:
    """An image of which there are crops alone."""
    return ConfidenceViews.of({"box": vectors(seed, count, 32)})


def single_precision(texts: ClassTextFeatures) -> ClassTextFeatures:
    return ClassTextFeatures(texts.features.float(), texts.class_index, texts.labels.float())


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=9),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=4),
    st.sampled_from([1.0, 0.1, 0.03, 1e-4]),
    st.booleans(),
)
def test_probabilities_are_their_definition(
    counts: list[int], views: list[tuple[int, int]], temperature: float, shuffled: bool
) -> None:
    texts = texts_with(counts, shuffled=shuffled)
    kinds = [
        {"box": vectors(seed, boxes, 32), "random": vectors(seed + 9, squares, 32), "whole": vectors(seed + 20, 1, 32)}
        for seed, (boxes, squares) in enumerate(views)
    ]
    images = [ConfidenceViews.of(image) for image in kinds]
    want = torch.stack([plain_probabilities(image, texts, temperature) for image in images])
    torch.testing.assert_close(class_probabilities(images, texts, temperature), want, rtol=1e-9, atol=1e-12)
    halves = [ConfidenceViews.of({kind: rows.float() for kind, rows in image.items()}) for image in kinds]
    single = class_probabilities(halves, single_precision(texts), temperature)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), want, rtol=0, atol=1e-6 / temperature)
    torch.testing.assert_close(single.sum(1), torch.ones(len(views)))


def test_blocks_of_views_and_texts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, images = texts_with([3, 1, 200, 7], shuffled=True), [crops(5, count) for count in (40, 1, 30)]
    want = torch.stack([plain_probabilities(image, texts, TEMPERATURE) for image in images])
    monkeypatch.setattr(soft_matching, "_block_sizes", lambda *_: (7, 64))
    torch.testing.assert_close(class_probabilities(images, texts, TEMPERATURE), want)


def test_the_order_of_views_texts_classes_and_images_decides_nothing() -> None:
    texts, image = texts_with([3, 1, 7]), crops(5, 6)
    want = class_probabilities([image], texts, TEMPERATURE)
    turned_views = ConfidenceViews(image.features.flip(0), image.weights.flip(0))
    torch.testing.assert_close(class_probabilities([crops(6, 2), turned_views], texts, TEMPERATURE)[1:], want)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(0))
    mixed = replace(texts, features=texts.features[order], class_index=texts.class_index[order])
    torch.testing.assert_close(class_probabilities([image], mixed, TEMPERATURE), want)
    turned = replace(texts, class_index=2 - texts.class_index, labels=texts.labels.flip(0))
    torch.testing.assert_close(class_probabilities([image], turned, TEMPERATURE), want.flip(1))


def test_a_class_with_many_texts_has_no_advantage() -> None:
    texts, image = texts_with([1, 2, 4]), crops(5, 6)
    features = torch.cat([texts.features, texts.features[:1]])
    once = class_probabilities([image], texts, TEMPERATURE)
    twice = replace(texts, features=features, class_index=torch.cat([texts.class_index, torch.tensor([0])]))
    torch.testing.assert_close(class_probabilities([image], twice, TEMPERATURE), once)


def test_one_class_is_certain_and_equal_classes_share() -> None:
    assert class_probabilities([crops(5, 6)], texts_with([3]), TEMPERATURE).tolist() == [pytest.approx([1.0])]
    same = texts_with([1]).features.repeat(4, 1)
    texts = ClassTextFeatures(same, torch.arange(4), same)
    assert class_probabilities([crops(5, 6)], texts, TEMPERATURE).tolist() == [pytest.approx([0.25] * 4)]


def test_parts_weigh_twice_as_much_as_the_full_image() -> None:
    views = {kind: vectors(seed, count, 4) for seed, (kind, count) in enumerate(KINDS.items())}

    def weights(*kinds: str) -> list[float]:
        chosen = ConfidenceViews.of({kind: views[kind] for kind in kinds})
        assert len(chosen.features) == len(chosen.weights)
        return [round(float(weight), 6) for weight in chosen.weights]

    assert weights("box", "whole") == [round(1 / 6, 6)] * 4 + [round(1 / 3, 6)]
    assert weights("whole", "box", "random", "window") == [round(1 / 9, 6)] * 6 + [round(1 / 3, 6)]
    assert weights("window", "whole") == [round(2 / 9, 6)] * 3 + [round(1 / 3, 6)]
    assert weights("box", "window") == [0.25] * 4
    assert weights("whole") == [1.0]
    seen = ConfidenceViews.of({**views, "box": views["box"][:0], "random": views["random"][:0]})
    assert torch.equal(seen.features, torch.cat([views["window"], views["whole"]]))
    assert float(seen.mean.norm()) == pytest.approx(1)
    torch.testing.assert_close(seen.mean * float((seen.weights @ seen.features).norm()), seen.weights @ seen.features)
    with pytest.raises(UsageError, match=r"known kind, got \['other'\]"):
        ConfidenceViews.of({"other": views["box"], "box": views["box"][:0]})


KINDS = {"box": 4, "random": 2, "window": 3, "whole": 1}


def test_the_known_score_is_its_definition() -> None:
    """The best class of any view, less the mean of the best common names or the best negative."""
    images = [crops(seed, count) for seed, count in ((1, 3), (2, 1))]
    classes, common, negatives = vectors(7, 4, 32), vectors(8, 9, 32), vectors(9, 2, 32)
    others = CommonNames(common, negatives)
    want = []
    for image in images:
        fits = [max(float(view @ name) for view in image.features) for name in common]
        besides = max(sum(sorted(fits)[-5:]) / 5, *(float((image.features @ name).max()) for name in negatives))
        want.append(max(float((image.features @ name).max()) for name in classes) - besides)
    assert known_scores(images, classes, others).tolist() == pytest.approx(want)
    few = CommonNames(common[:2], negatives[:0])
    fits = (images[1].features @ common[:2].T).mean()
    expected = float((images[1].features @ classes.T).max() - fits)
    assert known_scores(images[1:], classes, few).tolist() == pytest.approx([expected])
    alone = known_scores(images, classes, CommonNames(common[:0], classes))
    assert alone.tolist() == pytest.approx([0.0, 0.0])
    with pytest.raises(UsageError, match="no name of what images may show"):
        known_scores(images, classes, CommonNames(common[:0], negatives[:0]))


def test_common_names_near_a_class_are_left_out_and_negatives_never() -> None:
    classes = vectors(7, 2, 32)
    common = torch.cat([vectors(8, 15, 32, offset=0.1), classes, vectors(9, 3, 32, offset=0.1)])
    kept = CommonNames.of(classes, common, classes)
    near = (common @ classes.T).amax(1).argsort()
    assert torch.equal(kept.common, common[near[:17].sort().values])
    assert torch.equal(kept.negatives, classes)
    assert CommonNames.of(classes, common[:0]).empty


def test_what_cannot_be_a_view_is_named() -> None:
    texts = texts_with([3, 1])
    broken = vectors(5, 2, 32)
    broken[1] = torch.nan
    with pytest.raises(ModelError, match="view 3"):
        class_probabilities([crops(5, 2), ConfidenceViews.of({"box": broken})], texts, TEMPERATURE)
    with pytest.raises(UsageError, match="temperature"):
        class_probabilities([crops(5, 2)], texts, 0.0)
    with pytest.raises(UsageError, match="no image"):
        class_probabilities([], texts, TEMPERATURE)
