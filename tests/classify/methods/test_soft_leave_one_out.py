"""Soft matching without one sentence after the other: exact, and nothing skipped that could change a label."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from leave_one_out_cases import compare, every_class, leave_one_out_case

from abs_classify.methods import soft_leave_one_out
from abs_classify.methods.leave_one_out import prepare_effects
from abs_classify.methods.scoring import ClassTextFeatures, SoftMatch
from abs_classify.methods.sentence_effects import ExhaustiveEffects
from abs_classify.methods.similarity import unit
from abs_classify.methods.soft_matching import soft_reference


@pytest.mark.parametrize("temperature", [0.2, 0.03, 0.01])
@pytest.mark.parametrize("seed", range(4))
def test_effects_are_those_of_texts_without_the_sentence(temperature: float, seed: int) -> None:
    texts, views, truth = leave_one_out_case(seed, counts=[1, 2, 3, 1, 7, 2, 4] if seed % 2 else [2, 3] * 3, images=20)
    effects = compare(SoftMatch(temperature), texts, {"box": views["box"]}, truth)
    assert len(effects.changes)
    assert not len(compare(SoftMatch(temperature), texts, {"box": views["box"]}, None).names)


@pytest.mark.parametrize("temperature", [2e-3, 3e-4, 1e-5])
@pytest.mark.parametrize("seed", range(3))
def test_a_sentence_with_all_the_weight_of_a_view_can_be_left_out(temperature: float, seed: int) -> None:
    """Its powers are beyond what float32 holds beside it: those of the others are lost, and formed again."""
    texts, views, truth = leave_one_out_case(seed, counts=[3, 2, 4, 1, 3])
    compare(SoftMatch(temperature), _wide(texts), {"box": views["box"].double()}, truth)


def test_equal_classes_and_equal_sentences() -> None:
    texts, views, truth = leave_one_out_case(1, counts=[3, 3, 2, 4])
    features = texts.features.clone()
    features[3:6] = features[:3]  # two classes that tie everywhere
    features[9] = features[8]  # a sentence that is there twice
    features[11] = features[0]  # and one that another class has too
    same = ClassTextFeatures(features, texts.class_index, texts.labels)
    effects = compare(SoftMatch(), same, {"box": views["box"]}, truth)
    # of equal classes the first wins, until one of its sentences is gone
    assert 1 not in effects.labels.tolist()
    torch.testing.assert_close(effects.usage[:, 8], effects.usage[:, 9])


def test_tiny_margins_are_decided_as_by_the_definition() -> None:
    """Images between two classes: labels change by sentences of others, whose share is small."""
    texts, views, _ = leave_one_out_case(5, counts=[4, 4, 5, 6, 3, 4])
    means = unit(torch.stack([texts.features[texts.class_index == c].sum(0) for c in range(6)]))
    steps = torch.linspace(-0.3, 0.3, 300)[:, None, None]
    nudged = unit(means[0] + means[1] + steps * (means[0] - means[1]) + 0.8 * views["box"][0])
    effects = compare(SoftMatch(0.1), texts, {"box": nudged}, [0] * 300)
    assert {int(texts.class_index[m]) for m in effects.changes[:, 1].tolist()} - {0, 1}


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_for_every_sentence(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """|e_v| and A'_vc / D'_v of every sentence stay below what is said of its class."""
    texts, views, truth = leave_one_out_case(seed, counts=[2, 3, 9, 2, 5])
    seen: list[Any] = []
    original = soft_leave_one_out._SoftImage.bounds

    def noted(self: Any) -> Any:
        seen.append((self, original(self)))
        return seen[-1][1]

    monkeypatch.setattr(soft_leave_one_out._SoftImage, "bounds", noted)
    prepare_effects(SoftMatch(0.05), texts, range(5)).effects({"box": views["box"]}, truth)
    assert len(seen) == len(truth)
    for image, (moved, risen) in seen:
        for class_index in range(5):
            own = texts.features[texts.class_index == class_index]
            case = soft_leave_one_out._Removal.of(image, class_index, own)
            assert ((case.factors - 1).abs() <= moved[class_index] * (1 + 1e-4) + 1e-7).all()
            z = image.similarities(own)
            for sentence in range(len(own)):
                kept = torch.arange(len(own)) != sentence
                risen_now = (z * torch.exp(z - image.scale))[kept].mean(0) * case.factors[sentence] / image.total
                assert (risen_now <= risen[class_index] + 1e-5 * risen_now.abs()).all()


@pytest.mark.parametrize("temperature", [0.2, 0.03])
def test_every_score_is_that_of_texts_without_the_sentence(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """All scores within 1e-5 of each, also of sentences that the bounds would skip."""
    texts, views, truth = leave_one_out_case(3, counts=[2, 3, 9, 2, 5], views=9)
    cases: list[Any] = []
    original = soft_leave_one_out._Case._doubtful

    def noted(self: Any, true: int | None) -> Any:
        cases.append(self)
        return original(self, true)

    monkeypatch.setattr(soft_leave_one_out._Case, "_doubtful", noted)
    # in one thread, so that the images are looked at in their order
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    prepare_effects(SoftMatch(temperature), texts, range(5)).effects({"box": views["box"]}, truth)
    assert cases
    for number, case in enumerate(cases):
        for class_index, start in enumerate(case._starts):
            own = texts.features[texts.class_index == class_index]
            removal = soft_leave_one_out._Removal.of(case._image, class_index, own)
            scores = removal.scores(torch.arange(len(own)), start)
            for sentence in range(len(own)):
                kept = torch.arange(len(texts.features)) != start + sentence
                expected = soft_reference(
                    views["box"][number : number + 1], texts.features[kept], texts.class_index[kept], 5, temperature
                )[0]
                torch.testing.assert_close(scores[sentence], expected, rtol=1e-5, atol=1e-7 * float(expected.max()))


def test_most_classes_are_skipped_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, views, truth = leave_one_out_case(7, counts=[20] * 60, images=8, spread=0.6)
    looked: list[int] = []
    original = soft_leave_one_out._Case._doubtful

    def counted(self: Any, true: int | None) -> Any:
        doubtful = original(self, true)
        looked.append(len(doubtful))
        return doubtful

    monkeypatch.setattr(soft_leave_one_out._Case, "_doubtful", counted)
    prepare_effects(SoftMatch(), texts, range(60)).effects({"box": views["box"]}, truth)
    assert sum(looked) < 0.2 * 60 * 8


def test_views_and_images_are_cut_where_texts_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, views, truth = leave_one_out_case(4, counts=[3, 5, 2, 4], images=5, views=40)
    whole = prepare_effects(SoftMatch(), texts, range(4)).effects({"box": views["box"]}, truth)
    monkeypatch.setattr(soft_leave_one_out, "_KEPT", 1)
    monkeypatch.setattr(soft_leave_one_out, "_AT_ONCE", 1)
    cut = prepare_effects(SoftMatch(), texts, range(4)).effects({"box": views["box"]}, truth)
    slow = ExhaustiveEffects(SoftMatch(), texts, every_class(texts)).effects({"box": views["box"]}, truth)
    for effects in (whole, cut):
        assert sorted(effects.changes.tolist()) == sorted(slow.changes.tolist())
        assert sorted(effects.names.tolist()) == sorted(slow.names.tolist())
        torch.testing.assert_close(effects.usage.double(), slow.usage, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(effects.margins, slow.margins, rtol=1e-5, atol=1e-5)


def _wide(texts: ClassTextFeatures) -> ClassTextFeatures:
    return ClassTextFeatures(texts.features.double(), texts.class_index, texts.labels.double())
