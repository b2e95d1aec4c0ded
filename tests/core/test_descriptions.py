"""Descriptions outside of bundles, and label spaces."""

from __future__ import annotations

from typing import get_args

import pytest

from abs_core.descriptions import DESCRIPTION_KINDS, Description, DescriptionKind, LabelSpace, top_by_weight
from abs_core.errors import UsageError
from abs_core.labels import ClassLabel, LabelSet


def test_a_text_and_its_kind_are_a_description() -> None:
    phrase = Description("long tail", "phrase")
    assert phrase == Description("long tail", kind="phrase", class_id="")
    assert Description("A cat has a long tail.").kind == "sentence"
    assert (phrase.provenance.generator, phrase.scores, phrase.id) == ("", None, None)
    assert set(get_args(DescriptionKind)) == DESCRIPTION_KINDS


def test_a_label_space_of_labels_alone_is_named_by_their_digest() -> None:
    labels = LabelSet("zoo", (ClassLabel("b", "bee"), ClassLabel("a", "ape")))
    space = LabelSpace.of_labels(labels)
    assert space.descriptions is None
    assert list(space.names.items()) == [("b", "bee"), ("a", "ape")]
    assert space.source == f"labels zoo#{labels.digest}"


def test_top_by_weight_by_number_and_by_share() -> None:
    weights, classes, texts = [0.5, 0.3, 0.1, 0.1, 7.0, 0.0], ["x"] * 4 + ["y"] * 2, list("abdcef")
    assert top_by_weight(weights, classes, texts, keep=3, share=None) == (True, True, False, True, True, True)
    assert top_by_weight(weights, classes, texts, keep=None, share=0.8) == (True, True, False, False, True, False)
    assert top_by_weight(weights, classes, texts, keep=None, share=0.81) == (True, True, False, True, True, False)
    assert top_by_weight([0.0] * 3, ["z"] * 3, list("bac"), keep=None, share=0.5) == (False, True, False)
    for keep, share in ((None, None), (1, 0.5), (0, None), (None, 0.0), (None, 1.1)):
        with pytest.raises(UsageError):
            top_by_weight(weights, classes, texts, keep=keep, share=share)
