"""Which sentences differ between two versions: added, removed, edited, and what undoing them gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from abs_classify.evaluation.sentence_changes import changed_sentences, require_same_classes, undone
from abs_core.descriptions import Description, LabelSpace, Provenance
from abs_core.errors import UsageError
from abs_core.labels import ClassLabel, LabelSet, from_names

BEAK = Description("A long red beak.", id="a", provenance=Provenance("g", 0, "p", "r"))
TAIL = Description("Its tail is short and white.", id="b", provenance=Provenance("g", 1, "p", "r"))


def space(name: str, **sentences: list[Description]) -> LabelSpace:
    return LabelSpace(from_names(list(sentences)), sentences, name)


def kinds(old: list[Description], new: list[Description]) -> list[tuple[str, tuple[str, ...]]]:
    changes = changed_sentences(space("old", bird=old), space("new", bird=new))
    for change in changes:
        assert change.class_id == "bird"
    assert sorted(undone(changes, new), key=str) == sorted(old, key=str)
    return [(change.kind, change.texts) for change in changes]


def test_the_order_of_sentences_their_scores_and_who_accepted_them_are_no_change() -> None:
    accepted = replace(BEAK, scores={"x": 1.0}, provenance=replace(BEAK.provenance, accepted_by="anna"))
    old, new = space("old", bird=[BEAK, TAIL]), space("new", bird=[TAIL, accepted])
    assert changed_sentences(old, new) == []


def test_an_edit_is_known_by_its_id_whatever_its_words() -> None:
    other = replace(BEAK, text="Entirely different words.")
    assert kinds([BEAK, TAIL], [TAIL, other]) == [("edited", (BEAK.text, other.text))]


def test_an_edit_is_known_by_the_reviewer_and_the_answer_that_it_came_from() -> None:
    edited = Description("Nothing alike.", provenance=replace(TAIL.provenance, edited_by="anna"))
    old = [replace(BEAK, id=None), replace(TAIL, id=None)]
    assert kinds(old, [edited]) == [("edited", (TAIL.text, edited.text)), ("removed", (BEAK.text,))]
    # without the reviewer's mark the same answer says nothing
    unmarked = replace(edited, provenance=TAIL.provenance)
    assert [kind for kind, _ in kinds(old, [unmarked])] == ["added", "removed", "removed"]


def test_an_edit_is_known_by_most_of_its_words() -> None:
    fixed = Description("Its tail is short and black.")
    far = Description("Wings with a yellow stripe.")
    assert kinds([Description(TAIL.text)], [far, fixed]) == [
        ("added", (far.text,)),
        ("edited", (TAIL.text, fixed.text)),
    ]


def test_a_sentence_is_the_origin_of_one_edit() -> None:
    old = Description("A small brown bird with a red breast.")
    close, closer = (
        Description(f"A {size} brown bird with a red {part}.") for size, part in (("big", "wing"), ("tiny", "breast"))
    )
    assert kinds([old], [close, closer]) == [("added", (close.text,)), ("edited", (old.text, closer.text))]


def test_another_kind_and_a_second_copy_are_changes() -> None:
    phrase = replace(BEAK, kind="phrase")
    assert kinds([BEAK], [phrase]) == [("edited", (BEAK.text, BEAK.text))]
    assert kinds([BEAK, BEAK], [BEAK]) == [("removed", (BEAK.text,))]


def test_one_change_is_undone_without_the_others() -> None:
    new = [TAIL, Description("New."), replace(BEAK, text="A long blue beak.")]
    changes = changed_sentences(space("old", bird=[BEAK, Description("Gone for good.")]), space("new", bird=new))
    by_kind = {change.kind: undone([change], new) for change in changes if change.texts[0] != TAIL.text}
    assert [d.text for d in by_kind["added"]] == [TAIL.text, "A long blue beak."]
    assert [d.text for d in by_kind["edited"]] == [TAIL.text, "New.", BEAK.text]
    assert [d.text for d in by_kind["removed"]] == [TAIL.text, "New.", "A long blue beak.", "Gone for good."]


def test_label_sets_that_differ_are_refused_with_the_difference() -> None:
    old = LabelSpace(LabelSet("x", tuple(ClassLabel(i, i) for i in "abc")), {}, "old@1")
    new = LabelSpace(LabelSet("x", (ClassLabel("c", "see"), ClassLabel("a", "a"), ClassLabel("d\n", "d"))), {}, "new@1")
    with pytest.raises(UsageError) as refused:
        require_same_classes(old, new)
    message = str(refused.value)
    assert "old@1 and new@1 have different label sets" in message
    assert "1 class only in OLD: 'b'" in message
    assert r"1 class only in NEW: 'd\n'" in message
    assert "1 class has another name: 'c' is 'see' in NEW" in message
    reordered = LabelSpace(
        LabelSet("y", (ClassLabel("b", "b", note="x"), ClassLabel("c", "c"), ClassLabel("a", "a"))), {}, "n"
    )
    require_same_classes(old, reordered)


def test_many_differences_are_counted() -> None:
    old, new = (LabelSpace(from_names([f"{letter}{n}" for n in range(9)]), {}, letter) for letter in "ab")
    with pytest.raises(
        UsageError, match="9 classes only in OLD: 'a0', 'a1', 'a2', 'a3', 'a4' and 4 more; 9 classes only"
    ):
        require_same_classes(old, new)
