"""Class texts: every source, its wording, its limits and its errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from abs_classify.methods.class_texts import (
    ClassTextInputs,
    ClassTexts,
    Descriptors,
    RandomWords,
    Sentences,
    Template,
    TemplatedSentences,
    TemplateEnsemble,
)
from abs_core.descriptions import Description
from abs_core.errors import AbsError, UnknownNameError, UsageError

CLASSES = {"n1": "red_panda", "n2": "tractor"}

MIXED = {
    "n2": [Description("used on farms", "phrase"), Description("Tractors have two large wheels.")],
    "n1": [Description("long, bushy tail", "phrase")],
    "n9": [Description("of a class that is not asked for", "phrase")],
}

ALL_SOURCES = [Template(), TemplateEnsemble(), Descriptors(), RandomWords(), Sentences()]


def test_template() -> None:
    table = Template().build(ClassTextInputs(CLASSES, MIXED, ["not this {}."]))
    assert table.class_ids == ("n1", "n2")
    assert table.texts == ("a photo of a red panda.", "a photo of a tractor.")
    assert table.class_index == (0, 1)
    assert table.label_texts == table.texts
    assert table.note == ""


def test_template_ensemble() -> None:
    table = TemplateEnsemble().build(ClassTextInputs(CLASSES, None, ["a {}.", "the {}."]))
    assert table.texts == ("a red panda.", "the red panda.", "a tractor.", "the tractor.")
    assert table.class_index == (0, 0, 1, 1)
    assert table.label_texts == ("a photo of a red panda.", "a photo of a tractor.")


def test_braces_in_a_class_name_are_only_text() -> None:
    table = Template("a {}.").build(ClassTextInputs({"x": "{0.real} {}"}))
    assert table.texts == ("a {0.real} {}.",)


def test_descriptors_complete_phrases_and_leave_sentences() -> None:
    table = Descriptors().build(ClassTextInputs(CLASSES, MIXED))
    assert table.texts == (
        "red panda, which has long, bushy tail",
        "tractor, which is used on farms",
        "Tractors have two large wheels.",
    )
    assert table.class_index == (0, 1, 1)
    assert Descriptors(stop=True).build(ClassTextInputs(CLASSES, MIXED)).texts[1] == "tractor, which is used on farms."


def test_sentences_are_used_as_they_are_in_their_order() -> None:
    table = Sentences().build(ClassTextInputs(CLASSES, MIXED, ["not this {}."]))
    assert table.texts == Descriptors().build(ClassTextInputs(CLASSES, MIXED)).texts
    assert table.note == ""


def test_sentences_up_to_a_limit() -> None:
    table = Sentences(limit=1).build(ClassTextInputs(CLASSES, MIXED))
    assert table.texts == ("red panda, which has long, bushy tail", "tractor, which is used on farms")


def test_ten_thousand_descriptions_of_one_class_and_one_of_the_other() -> None:
    many = {
        "n1": [Description(f"A red panda, number {i}.") for i in range(10_000)],
        "n2": MIXED["n2"],
    }
    table = Sentences().build(ClassTextInputs(CLASSES, many))
    assert table.class_index == (0,) * 10_000 + (1, 1)


@pytest.mark.parametrize("nothing", [None, {}, {"n1": [], "n2": []}])
def test_without_descriptions_the_plain_templates_stand_in_and_the_table_says_so(
    nothing: dict[str, list[Description]],
) -> None:
    table = Sentences().build(ClassTextInputs(CLASSES, nothing, ["not this {}."]))
    assert len(table.texts) == 16
    assert table.texts[0] == "a photo of a red panda."
    assert all("tractor" in text for text in table.texts[8:])
    assert table.note == "no descriptions: the template set 'plain' stands in for them"


def test_random_words_are_the_same_for_every_class() -> None:
    table = RandomWords(count=3).build(ClassTextInputs(CLASSES, MIXED))
    assert table.class_index == (0,) * 6 + (1,) * 6
    for mine, other in zip(table.texts[:6], table.texts[6:], strict=True):
        assert mine.startswith("A photo of a red panda, which ")
        assert mine.replace("red panda", "tractor") == other
    assert RandomWords(count=3, seed=1).build(ClassTextInputs(CLASSES, MIXED)).digest != table.digest
    assert (
        RandomWords(count=3, mode="characters").build(ClassTextInputs(CLASSES, MIXED)).class_index
        == (0,) * 3 + (1,) * 3
    )


def test_random_words_take_a_word_list() -> None:
    table = RandomWords(count=2, words=("zip",)).build(ClassTextInputs({"a": "kayak"}))
    assert table.texts[::2] == ("A photo of a kayak, which has zip.",) * 2


@pytest.mark.parametrize("source", [Descriptors(), Sentences()])
def test_a_class_without_descriptions_is_named(source: Descriptors | Sentences) -> None:
    with pytest.raises(UsageError, match=r"the class has no description: n1 \(red panda\)"):
        source.build(ClassTextInputs(CLASSES, {"n2": MIXED["n2"]}))
    many = {f"n{i}": f"class_{i}" for i in range(9)}
    with pytest.raises(UsageError, match=r"no description: n0 \(class 0\), n1 \(class 1\), n3 \(class 3\) and 5 more"):
        source.build(ClassTextInputs(many, {"n2": MIXED["n2"]}))


@pytest.mark.parametrize("source", [Descriptors(), Sentences()])
def test_descriptions_of_other_classes_only(source: Descriptors | Sentences) -> None:
    with pytest.raises(UsageError, match="none of the 2 classes has a description, though 1 other"):
        source.build(ClassTextInputs(CLASSES, {"n9": MIXED["n9"]}))


def test_sources_that_cannot_do_without() -> None:
    with pytest.raises(UsageError, match="needs descriptions"):
        Descriptors().build(ClassTextInputs(CLASSES))
    with pytest.raises(UsageError, match="no templates"):
        TemplateEnsemble().build(ClassTextInputs(CLASSES))


@pytest.mark.parametrize("source", ALL_SOURCES, ids=lambda source: source.name)
def test_no_classes_and_empty_names(source: Template) -> None:
    with pytest.raises(UsageError, match="there are no classes"):
        source.build(ClassTextInputs({}, MIXED, ["a {}."]))
    with pytest.raises(UsageError, match="the class 'n1' has an empty name"):
        source.build(ClassTextInputs({"n1": " _", "n2": "tractor"}, MIXED, ["a {}."]))


@pytest.mark.parametrize("source", ALL_SOURCES, ids=lambda source: source.name)
def test_two_classes_may_share_a_name(source: Template) -> None:
    table = source.build(ClassTextInputs({"n1": "missile", "n2": "missile"}, MIXED, ["a {}."]))
    assert set(table.class_index) == {0, 1}


def test_the_digest_sees_every_id_and_text_in_order_but_neither_names_nor_note() -> None:
    base = ClassTexts(("a", "b"), ("A", "B"), ("x", "y", "z"), (0, 0, 1), ("l", "m"))
    others = [
        replace(base, class_ids=("a", "c")),
        replace(base, texts=("y", "x", "z")),
        replace(base, class_index=(0, 1, 1)),
        replace(base, label_texts=("l", "n")),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 5
    assert replace(base, note="a note", class_names=("B", "A")).digest == base.digest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_ids": (), "class_names": (), "label_texts": ()}, "there are no classes"),
        ({"class_ids": ("a", "a")}, "the class id 'a' appears twice"),
        ({"class_index": (0, 0)}, "the class has no text: b"),
        ({"class_index": (0,)}, "2 texts with 1 class indices"),
        ({"label_texts": ("l",)}, "2 classes with 2 names and 1 label texts"),
        ({"class_names": ("A",)}, "2 classes with 1 names and 2 label texts"),
        ({"class_index": (0, 2)}, "a class index is not the position of a class"),
    ],
)
def test_class_texts_that_do_not_fit(fields: dict[str, tuple[Any, ...]], message: str) -> None:
    fitting = ClassTexts(("a", "b"), ("A", "B"), ("x", "y"), (0, 1), ("l", "m"))
    with pytest.raises(UsageError, match=message):
        replace(fitting, **fields)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: ClassTextInputs({"a": "cat"}, {"a": [Description("  ")]}).descriptions_by_class(),
            UsageError,
            "a description is empty",
        ),
        (
            lambda: ClassTextInputs(
                {"a": "cat"}, {"a": [Description("x", cast("Any", "word"))]}
            ).descriptions_by_class(),
            UnknownNameError,
            "valid: sentence, phrase",
        ),
        (lambda: Template("a photo."), UsageError, "must have exactly one {}"),
        (lambda: Template("a {} and {}."), UsageError, "must have exactly one {}"),
        (lambda: Sentences(limit=0), UsageError, "limit of descriptions must be at least 1, got 0"),
        (
            lambda: RandomWords(count=0).build(ClassTextInputs(CLASSES)),
            UsageError,
            "count of random texts must be at least 1, got 0",
        ),
        (
            lambda: RandomWords(seed=-1).build(ClassTextInputs(CLASSES)),
            UsageError,
            "seed of the random texts must be .* got -1",
        ),
        (
            lambda: RandomWords(words=()).build(ClassTextInputs(CLASSES)),
            UsageError,
            "word list for random texts is empty",
        ),
    ],
)
def test_bad_values(make: object, error: type[AbsError], message: str) -> None:
    with pytest.raises(error, match=message):
        make()  # type: ignore[operator]


def test_a_template_alone_and_before_each_description() -> None:
    texts = TemplatedSentences().build(ClassTextInputs({"w": "grey_wren", "o": "owl"}, {
        "w": (Description("It is small."), Description("short tail", "phrase")), "o": (Description("It hoots."),),
    }))  # fmt: skip
    plain = "a photo of a grey wren."
    phrase = texts.texts[2].removeprefix(f"{plain} ")
    assert texts.texts == (plain, f"{plain} It is small.", f"{plain} {phrase}", "a photo of a owl.",
                           "a photo of a owl. It hoots.")  # fmt: skip
    assert "short tail" in phrase
    assert texts.class_index == (0, 0, 0, 1, 1)


def test_a_template_before_those_of_a_set_where_there_are_no_descriptions() -> None:
    texts = TemplatedSentences("an image of {}.", fallback="single").build(ClassTextInputs({"w": "wren", "o": "owl"}))
    assert texts.texts == ("an image of wren.", "a photo of a wren.", "an image of owl.", "a photo of a owl.")
    assert texts.note == "no descriptions: the template set 'single' stands in for them"
