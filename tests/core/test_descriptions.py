"""Descriptions outside of bundles, and label spaces."""

from __future__ import annotations

from typing import get_args

from abs_core.descriptions import DESCRIPTION_KINDS, Description, DescriptionKind, LabelSpace
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
