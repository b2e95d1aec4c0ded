"""Copies and near duplicates by text alone: against the plain rule, and on sentences that people and models write."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abs_descriptions.bundles.reader import read_bundle
from abs_descriptions.bundles.versions import shipped_bundles
from abs_descriptions.filtering.criteria import Decision, Decisions, TextCriteria
from abs_descriptions.filtering.text_decisions import decide_by_text, jaccard, normalized_text, trigrams
from abs_descriptions.generation.cleaning import RejectionReason

SENTENCES = [
    "A volcano is a steep, cone-shaped mountain with a wide crater at its summit.",
    "A volcano is a steep, cone-shaped mountain with a crater at its summit.",
    "a volcano is a steep cone-shaped mountain with a wide crater at its summit",
    "Lava glows orange on the slope of a volcano.",
]


def reasons(decisions: Decisions) -> list[RejectionReason | None]:
    return [decision.reason for decision in decisions.decisions]


def plain(texts: Sequence[str], limit: float) -> dict[str, tuple[str, float]]:
    """The rule word for word, on the texts of one class: those that go, the kept one nearest to each, and how near."""
    kept: list[str] = []
    gone = {}
    first: dict[str, str] = {}
    for text in sorted(texts):
        if first.setdefault(normalized_text(text), text) != text:
            gone[text] = (first[normalized_text(text)], 1.0)
    for text in sorted(first.values(), key=lambda text: (-len(trigrams(text)), text)):
        similarities = [jaccard(trigrams(text), trigrams(other)) for other in kept]
        if similarities and max(similarities) >= limit:
            gone[text] = (kept[similarities.index(max(similarities))], max(similarities))
        else:
            kept.append(text)
    return gone


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.8, 1.0])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_the_decisions_are_those_of_comparing_all_pairs(limit: float, data: st.DataObject) -> None:
    words = st.sampled_from(["red", "reds", "beak", "long", "longer", "a", "wing", "羽", "é", "."])
    texts = data.draw(
        st.lists(st.lists(words, min_size=1, max_size=6).map(" ".join), min_size=1, max_size=25, unique=True)
    )
    found = decide_by_text(texts, [0] * len(texts), TextCriteria(limit))
    expected = plain(texts, limit)
    for text, decision in zip(texts, found.decisions, strict=True):
        if text not in expected:
            assert decision == Decision(None, {})
            continue
        other, similarity = expected[text]
        assert decision.neighbour is not None
        assert texts[decision.neighbour] == other
        if decision.reason is RejectionReason.NEAR_DUPLICATE:
            assert decision.measured == {"jaccard": round(similarity, 4), "limit": limit}
        else:
            assert decision.reason is RejectionReason.DUPLICATE


def test_of_a_group_the_longest_stays_and_copies_name_what_they_copy() -> None:
    found = decide_by_text(SENTENCES, [0] * 4, TextCriteria())
    assert reasons(found) == [None, RejectionReason.NEAR_DUPLICATE, RejectionReason.DUPLICATE, None]
    assert [decision.neighbour for decision in found.decisions] == [None, 0, 0, None]
    assert found.decisions[1].measured["jaccard"] > 0.9
    assert found.protected == 0
    only_copies = decide_by_text(SENTENCES, [0] * 4, TextCriteria(None))
    assert reasons(only_copies) == [None, None, RejectionReason.DUPLICATE, None]


def test_classes_are_apart_and_the_order_is_free() -> None:
    assert reasons(decide_by_text(SENTENCES, [0, 1, 2, 3], TextCriteria())) == [None] * 4
    expected = decide_by_text(SENTENCES, [0] * 4, TextCriteria())
    for seed in range(5):
        order = random.Random(seed).sample(range(4), 4)
        found = decide_by_text([SENTENCES[place] for place in order], [7] * 4, TextCriteria())
        assert reasons(found) == [expected.decisions[place].reason for place in order]


@pytest.mark.parametrize(
    ("text", "other", "is_copy"),
    [
        ("A café — by the sea!", "a cafe\u0301 by the SEA", True),
        ("Ｆｕｌｌ width", "full width", True),
        ("The owl's face.", "The owl face", True),
        ("长 长 的 羽毛", "长长的羽毛。", True),
        ("⭐⭐", "⭐⭐", True),
        ("⭐⭐", "❄❄", False),
        ("A male has a green head.", "A female has a brown head.", False),
        ("", "x", False),
    ],
)
def test_what_is_a_copy(text: str, other: str, is_copy: bool) -> None:
    assert (normalized_text(text) == normalized_text(other)) is is_copy
    assert (jaccard(trigrams(text), trigrams(other)) == 1) is is_copy


def test_sentences_written_by_hand_are_no_near_duplicates() -> None:
    for path in shipped_bundles().values():
        bundle = read_bundle(path)
        records = list(bundle.records())
        names = [label.id for label in bundle.header.label_set.classes]
        classes = [names.index(record.class_id) for record in records]
        assert not any(reasons(decide_by_text([record.text for record in records], classes, TextCriteria(0.5))))
