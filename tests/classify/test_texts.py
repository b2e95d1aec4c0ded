"""Text tables: every source, its wording, its limits and its errors; CLIP-D's wording is that of its authors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from abs_classify.methods.class_texts import (
    ClassTexts,
    Descriptors,
    RandomWords,
    Sentences,
    Template,
    TemplateEnsemble,
    as_descriptions,
    descriptions_of,
)
from abs_classify.methods.phrases import clause, descriptor_sentence
from abs_core.descriptions import Description
from abs_core.errors import AbsError, UnknownNameError, UsageError

GOLDEN = Path(__file__).parents[1] / "golden" / "rivals"
CLASSES = {"n1": "red_panda", "n2": "tractor"}
MIXED = {
    "n2": [Description("used on farms", "phrase"), Description("Tractors have two large wheels.")],
    "n1": [Description("long, bushy tail", "phrase")],
    "n9": [Description("of a class that is not asked for", "phrase")],
}
ALL_SOURCES = [Template(), TemplateEnsemble(), Descriptors(), RandomWords(), Sentences()]


def test_the_clip_d_rule_gives_the_authors_clauses_and_sentences() -> None:
    with np.load(GOLDEN / "clipd.npz") as golden:
        for descriptor, expected, plain, imagenet in zip(
            golden["descriptor"],
            golden["clause"],
            golden["sentence_clipd"],
            golden["sentence_clipd_imagenet"],
            strict=True,
        ):
            assert clause(str(descriptor)) == expected
            assert descriptor_sentence("toy_widget", str(descriptor)) == plain
            assert descriptor_sentence("toy_widget", str(descriptor), stop=True) == imagenet


def test_template() -> None:
    table = Template().build(CLASSES, MIXED, ["not this {}."])
    assert table.class_ids == ("n1", "n2")
    assert table.texts == ("a photo of a red panda.", "a photo of a tractor.")
    assert table.class_index == (0, 1)
    assert table.label_texts == table.texts
    assert table.note == ""


def test_template_ensemble() -> None:
    table = TemplateEnsemble().build(CLASSES, None, ["a {}.", "the {}."])
    assert table.texts == ("a red panda.", "the red panda.", "a tractor.", "the tractor.")
    assert table.class_index == (0, 0, 1, 1)
    assert table.label_texts == ("a photo of a red panda.", "a photo of a tractor.")


def test_braces_in_a_class_name_are_only_text() -> None:
    table = Template("a {}.").build({"x": "{0.real} {}"}, None, [])
    assert table.texts == ("a {0.real} {}.",)


def test_descriptors_complete_phrases_and_leave_sentences() -> None:
    table = Descriptors().build(CLASSES, MIXED, [])
    assert table.texts == (
        "red panda, which has long, bushy tail",
        "tractor, which is used on farms",
        "Tractors have two large wheels.",
    )
    assert table.class_index == (0, 1, 1)
    assert Descriptors(stop=True).build(CLASSES, MIXED, []).texts[1] == "tractor, which is used on farms."


def test_sentences_are_used_as_they_are_in_their_order() -> None:
    table = Sentences().build(CLASSES, MIXED, ["not this {}."])
    assert table.texts == Descriptors().build(CLASSES, MIXED, []).texts
    assert table.note == ""


def test_sentences_up_to_a_limit() -> None:
    table = Sentences(limit=1).build(CLASSES, MIXED, [])
    assert table.texts == ("red panda, which has long, bushy tail", "tractor, which is used on farms")


def test_ten_thousand_descriptions_of_one_class_and_one_of_the_other() -> None:
    many = {
        "n1": as_descriptions({"n1": [f"A red panda, number {i}." for i in range(10_000)]})["n1"],
        "n2": MIXED["n2"],
    }
    table = Sentences().build(CLASSES, many, [])
    assert table.class_index == (0,) * 10_000 + (1, 1)


@pytest.mark.parametrize("nothing", [None, {}, {"n1": [], "n2": []}])
def test_without_descriptions_the_plain_templates_stand_in_and_the_table_says_so(
    nothing: dict[str, list[Description]],
) -> None:
    table = Sentences().build(CLASSES, nothing, ["not this {}."])
    assert len(table.texts) == 16
    assert table.texts[0] == "a photo of a red panda."
    assert all("tractor" in text for text in table.texts[8:])
    assert table.note == "no descriptions: the template set 'plain' stands in for them"


def test_random_words_are_the_same_for_every_class() -> None:
    table = RandomWords(count=3).build(CLASSES, MIXED, [])
    assert table.class_index == (0,) * 6 + (1,) * 6
    for mine, other in zip(table.texts[:6], table.texts[6:], strict=True):
        assert mine.startswith("A photo of a red panda, which ")
        assert mine.replace("red panda", "tractor") == other
    assert RandomWords(count=3, seed=1).build(CLASSES, MIXED, []).digest != table.digest
    assert RandomWords(count=3, mode="characters").build(CLASSES, MIXED, []).class_index == (0,) * 3 + (1,) * 3


def test_random_words_take_a_word_list() -> None:
    table = RandomWords(count=2, words=("zip",)).build({"a": "kayak"}, None, [])
    assert table.texts[::2] == ("A photo of a kayak, which has zip.",) * 2


@pytest.mark.parametrize("source", [Descriptors(), Sentences()])
def test_a_class_without_descriptions_is_named(source: Descriptors | Sentences) -> None:
    with pytest.raises(UsageError, match=r"the class has no description: n1 \(red panda\)"):
        source.build(CLASSES, {"n2": MIXED["n2"]}, [])
    many = {f"n{i}": f"class_{i}" for i in range(9)}
    with pytest.raises(UsageError, match=r"no description: n0 \(class 0\), n1 \(class 1\), n3 \(class 3\) and 5 more"):
        source.build(many, {"n2": MIXED["n2"]}, [])


@pytest.mark.parametrize("source", [Descriptors(), Sentences()])
def test_descriptions_of_other_classes_only(source: Descriptors | Sentences) -> None:
    with pytest.raises(UsageError, match="none of the 2 classes has a description, though 1 other"):
        source.build(CLASSES, {"n9": MIXED["n9"]}, [])


def test_sources_that_cannot_do_without() -> None:
    with pytest.raises(UsageError, match="needs descriptions"):
        Descriptors().build(CLASSES, None, [])
    with pytest.raises(UsageError, match="no templates"):
        TemplateEnsemble().build(CLASSES, None, [])


@pytest.mark.parametrize("source", ALL_SOURCES, ids=lambda source: source.name)
def test_no_classes_and_empty_names(source: Template) -> None:
    with pytest.raises(UsageError, match="there are no classes"):
        source.build({}, MIXED, ["a {}."])
    with pytest.raises(UsageError, match="the class 'n1' has an empty name"):
        source.build({"n1": " _", "n2": "tractor"}, MIXED, ["a {}."])


@pytest.mark.parametrize("source", ALL_SOURCES, ids=lambda source: source.name)
def test_two_classes_may_share_a_name(source: Template) -> None:
    table = source.build({"n1": "missile", "n2": "missile"}, MIXED, ["a {}."])
    assert set(table.class_index) == {0, 1}


def test_the_digest_sees_every_text_owner_id_and_their_order_but_not_the_note() -> None:
    base = ClassTexts(("a", "b"), ("x", "y", "z"), (0, 0, 1), ("l", "m"))
    others = [
        ClassTexts(("a", "c"), ("x", "y", "z"), (0, 0, 1), ("l", "m")),
        ClassTexts(("a", "b"), ("y", "x", "z"), (0, 0, 1), ("l", "m")),
        ClassTexts(("a", "b"), ("x", "y", "z"), (0, 1, 1), ("l", "m")),
        ClassTexts(("a", "b"), ("x", "y", "z"), (0, 0, 1), ("l", "n")),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 5
    assert ClassTexts(("a", "b"), ("x", "y", "z"), (0, 0, 1), ("l", "m"), "a note").digest == base.digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (((), (), (), ()), "a text table has no classes"),
        ((("a", "a"), ("x", "y"), (0, 1), ("l", "m")), "the class id 'a' stands twice"),
        ((("a", "b"), ("x", "y"), (0, 0), ("l", "m")), "the class has no text: b"),
        ((("a", "b"), ("x", "y"), (0,), ("l", "m")), "2 texts with 1 owners"),
        ((("a", "b"), ("x", "y"), (0, 1), ("l",)), "2 classes with 1 label texts"),
        ((("a", "b"), ("x", "y", "z"), (0, 1, 2), ("l", "m")), "an class_index that is not a class"),
    ],
)
def test_a_table_that_does_not_fit(fields: tuple[tuple[str, ...], ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClassTexts(*fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: descriptions_of({"a": "cat"}, {"a": [Description("  ")]}), UsageError, "a description is empty"),
        (
            lambda: descriptions_of({"a": "cat"}, {"a": [Description("x", cast("Any", "word"))]}),
            UnknownNameError,
            "valid: sentence, phrase",
        ),
        (lambda: as_descriptions({"n1": "one string"}), UsageError, "class 'n1' are one string"),
        (lambda: Template("a photo."), UsageError, "does not have exactly one {}"),
        (lambda: Template("a {} and {}."), UsageError, "does not have exactly one {}"),
        (lambda: Sentences(limit=0), UsageError, "limit of descriptions is 0"),
        (lambda: RandomWords(count=0).build(CLASSES, None, []), UsageError, "count of random texts is 0"),
        (lambda: RandomWords(seed=-1).build(CLASSES, None, []), UsageError, "seed of the random texts is -1"),
        (lambda: RandomWords(words=()).build(CLASSES, None, []), UsageError, "word list for random texts is empty"),
    ],
)
def test_bad_values(make: object, error: type[AbsError], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]
