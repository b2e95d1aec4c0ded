"""Filter criteria: decisions on handmade vectors, compared with plainly written rules."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from abs_core.errors import ModelError
from abs_descriptions.filtering.criteria import Criteria, Decision, Decisions
from abs_descriptions.filtering.embedding_decisions import decide
from abs_descriptions.generation.cleaning import RejectionReason


def unit(rows: Any) -> NDArray[np.float32]:
    array = np.asarray(rows, dtype=np.float64)
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


def cloud(seed: int, count: int, axis: int, dims: int = 8, spread: float = 0.3) -> NDArray[np.float32]:
    """Unit vectors around an axis."""
    noise = np.random.default_rng(seed).normal(0, spread, (count, dims))
    noise[:, axis] += 1
    return unit(noise)


def two_classes(count: int = 8) -> tuple[NDArray[np.float32], list[int], list[str]]:
    vectors = np.concatenate([cloud(1, count, 0), cloud(2, count, 1)])
    return vectors, [0] * count + [1] * count, [f"{owner} text {at:02}" for owner in "ab" for at in range(count)]


def reasons(decisions: Decisions) -> list[RejectionReason | None]:
    return [one.reason for one in decisions.decisions]


def slow_near_duplicates(rows: NDArray[np.float32], texts: Sequence[str], limit: float) -> set[str]:
    """The rule of the documents for one class, written down plainly; the texts that go."""
    order = sorted(range(len(texts)), key=lambda i: texts[i])

    def typical(i: int) -> float:
        rest = sum(rows[j].astype(float) for j in order if j != i)
        return float(rest @ rows[i] / np.linalg.norm(rest))

    kept: list[int] = []
    gone = set()
    for i in sorted(order, key=lambda i: -typical(i)):
        if any(float(rows[i] @ rows[j]) >= limit for j in kept):
            gone.add(texts[i])
        else:
            kept.append(i)
    return gone


@pytest.mark.parametrize("count", [2, 30, 700])
def test_near_duplicates_are_those_of_the_plain_rule(count: int) -> None:
    rows = cloud(3, count, 0, dims=4, spread=0.5)
    texts = [f"text {at:04}" for at in np.random.default_rng(0).permutation(count)]
    found = decide(rows, [0] * count, texts, Criteria(0.98, None, None))
    gone = {text for text, one in zip(texts, found.decisions, strict=True) if one.reason}
    assert gone == slow_near_duplicates(rows, texts, 0.98)
    assert (count < 3) or gone
    for one in found.decisions:
        if one.reason:
            assert one.reason is RejectionReason.NEAR_DUPLICATE
            assert one.measured["cosine"] >= 0.98
            assert one.neighbour is not None
            assert found.decisions[one.neighbour].reason is None


def test_copies_in_two_classes_are_no_near_duplicates() -> None:
    vectors, owners, texts = two_classes()
    vectors[8] = vectors[0]
    assert reasons(decide(vectors, owners, texts, Criteria(0.99, None, None))) == [None] * 16


def test_a_sentence_far_from_its_class_is_off_topic() -> None:
    vectors = np.concatenate([cloud(1, 12, 0, spread=0.1), cloud(2, 12, 1, spread=0.1)])
    owners, texts = [0] * 12 + [1] * 12, [f"text {at:02}" for at in range(24)]
    vectors[5] = unit([[0, 0, 0, 0, 0, 0, 0, 1]])[0]
    found = decide(vectors, owners, texts, Criteria(None, 3.5, None))
    assert [at for at, one in enumerate(found.decisions) if one.reason] == [5]
    own = [one.measured["class-similarity"] for one in found.decisions[:12]]
    distance = np.array(own) - np.median(own)
    spread = max(float(np.median(np.abs(distance))), 0.05)
    assert found.decisions[5].reason is RejectionReason.OFF_TOPIC
    assert found.decisions[5].measured["modified-z"] == pytest.approx(0.6745 * distance[5] / spread, rel=2e-3)


def test_small_and_uniform_classes_have_nothing_off_topic() -> None:
    rows = np.concatenate([cloud(1, 3, 0), unit([[0, 0, 0, 1, 0, 0, 0, 0]])])
    assert reasons(decide(rows, [0] * 4, list("abcd"), Criteria(None, 0.5, None))) == [None] * 4
    tight = cloud(1, 20, 0, spread=0.001)
    assert reasons(decide(tight, [0] * 20, [f"{i:02}" for i in range(20)], Criteria(None, 3.5, None))) == [None] * 20


def test_a_sentence_in_the_wrong_class_goes_and_names_the_right_one() -> None:
    vectors, owners, texts = two_classes(10)
    vectors[3] = cloud(9, 1, 1)[0]
    found = decide(vectors, owners, texts, Criteria(None, None, 0.1))
    assert [at for at, one in enumerate(found.decisions) if one.reason] == [3]
    one = found.decisions[3]
    assert (one.reason, one.rival) == (RejectionReason.OTHER_CLASS, 1)
    rest = vectors[[0, 1, 2, 4, 5, 6, 7, 8, 9]].sum(0)
    other = vectors[10:].sum(0)
    assert one.measured["class-similarity"] == pytest.approx(rest @ vectors[3] / np.linalg.norm(rest), abs=1e-4)
    assert one.measured["rival-similarity"] == pytest.approx(other @ vectors[3] / np.linalg.norm(other), abs=1e-4)


@pytest.mark.parametrize("least", [1, 3, 99])
def test_no_class_is_emptied(least: int) -> None:
    """Two classes whose sentences were all exchanged but one that is a near-duplicate."""
    vectors, owners, texts = two_classes()
    mixed = [1 - owner for owner in owners]
    mixed[0], mixed[8] = 0, 1
    found = decide(vectors, mixed, texts, Criteria(None, 0.0, 0.0, least=least))
    for owner in (0, 1):
        stay = [one for one, own in zip(found.decisions, mixed, strict=True) if own == owner and one.reason is None]
        assert len(stay) >= min(least, 8)
    if least == 99:
        assert reasons(found) == [None] * 16
        assert found.protected > 0


def test_the_choice_is_that_of_maximal_marginal_relevance() -> None:
    rows = cloud(4, 15, 0, dims=5, spread=0.6)
    texts = [f"{at:02}" for at in range(15)]
    found = decide(rows, [0] * 15, texts, Criteria(None, None, None, keep=4, diversity=0.5))
    typical = []
    for at in range(15):
        rest = np.delete(rows, at, axis=0).sum(0)
        typical.append(float(rest @ rows[at] / np.linalg.norm(rest)))
    chosen = [int(np.argmax(typical))]
    while len(chosen) < 4:
        scores = {
            at: 0.5 * typical[at] - 0.5 * max(float(rows[at] @ rows[c]) for c in chosen)
            for at in range(15)
            if at not in chosen
        }
        chosen.append(max(scores, key=lambda at: scores[at]))
    assert {at for at, one in enumerate(found.decisions) if one.reason is None} == set(chosen)
    for at, one in enumerate(found.decisions):
        if at not in chosen:
            assert one.reason is RejectionReason.SURPLUS
            assert one.neighbour == max(chosen, key=lambda c: float(rows[at] @ rows[c]))


def test_all_diversity_takes_the_extremes_and_none_takes_the_centre() -> None:
    angles = np.radians([0, 2, 4, 30, 56, 58, 60])
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    texts = list("abcdefg")

    def kept(diversity: float, keep: int) -> set[str]:
        found = decide(rows, [0] * 7, texts, Criteria(None, None, None, keep=keep, diversity=diversity))
        return {text for text, one in zip(texts, found.decisions, strict=True) if one.reason is None}

    assert kept(1.0, 3) == {"a", "d", "g"}
    assert kept(0.0, 1) == {"d"}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5))
def test_the_order_of_the_records_changes_nothing(seed: int, classes: int, keep: int) -> None:
    generator = np.random.default_rng(seed)
    owners = [int(owner) for owner in generator.integers(0, classes, 24)]
    # coarse numbers make ties
    rows = unit(np.round(generator.normal(size=(24, 3)), 0) + np.array([3.5, 0, 0]))
    texts = [f"text {at:02}" for at in range(24)]
    criteria = Criteria(0.97, 2.0, 0.02, keep=keep, least=2)

    def judged(order: list[int]) -> dict[str, tuple[Any, ...]]:
        found = decide(rows[order], [owners[i] for i in order], [texts[i] for i in order], criteria)

        def named(one: Decision) -> tuple[Any, ...]:
            other = None if one.neighbour is None else texts[order[one.neighbour]]
            return one.reason, dict(one.measured), other, one.rival

        return {texts[order[at]]: named(one) for at, one in enumerate(found.decisions)}

    straight = judged(list(range(24)))
    shuffled = list(range(24))
    random.Random(seed).shuffle(shuffled)
    assert judged(shuffled) == straight
    for owner in set(owners):
        stay = [text for text, own in zip(texts, owners, strict=True) if own == owner and straight[text][0] is None]
        assert 1 <= len(stay) <= keep


def test_one_sentence_one_class() -> None:
    found = decide(unit([[1, 2]]), [0], ["a"], Criteria(keep=1))
    assert reasons(found) == [None]


@pytest.mark.parametrize("bad", [np.nan, 0.0, 2.0])
def test_bad_vectors_are_refused_by_name(bad: float) -> None:
    vectors, owners, texts = two_classes()
    vectors[4] *= bad
    with pytest.raises(ModelError, match="a text 04"):
        decide(vectors, owners, texts, Criteria())
