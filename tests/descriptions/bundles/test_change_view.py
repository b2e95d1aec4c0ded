"""Changes as lines: edits side by side, words marked, the bars of `--stat`, and nothing that a terminal would obey."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rich.cells import cell_len

from abs_core.descriptions import Description, Provenance
from abs_descriptions.bundles.change_view import (
    TextStyle,
    change_lines,
    label_lines,
    label_summary,
    log_line,
    stat_lines,
    word_changes,
)
from abs_descriptions.bundles.diff import ChangeCounts, ClassChange, LabelChange

OLD = "A small cat has wiskers, a long tail and soft ears that move."
NEW = "A small cat has long whiskers, a tail and soft ears that move."


def sentences(*texts: str) -> tuple[Description, ...]:
    return tuple(Description(text) for text in texts)


def change(name: str = "cat", **fields: Any) -> ClassChange:
    empty: dict[str, Any] = {"added": (), "removed": (), "edited": (), "altered": (), "kept": 1, "accepted": 0}
    return ClassChange(name, name, **empty | {"otherwise": 0} | fields)


EDIT = change(edited=((*sentences(OLD), *sentences(NEW)),))


def test_what_is_gone_new_and_altered() -> None:
    altered = ((Description("C."), Description("C.", "phrase", scores={"clip": 0.5})),)
    shown = change(removed=sentences("A."), added=sentences("\x1b[2J\u202eevil", "<b>"), altered=altered)
    assert list(change_lines(shown)) == [
        "cat (cat), 1 kept",
        "  - A.",
        "  + \\x1b[2J\\u202eevil",
        "  + <b>",
        "  = C. [kind, scores]",
    ]


def test_an_edit_is_shown_side_by_side() -> None:
    assert list(change_lines(EDIT, TextStyle(80)))[1:] == [
        "  ~ A small cat has [-wiskers-], a       | A small cat has {+long whiskers+}, a",
        "    [-long-] tail and soft ears that     | tail and soft ears that move.",
        "    move.                                |",
    ]


def test_a_narrow_terminal_has_one_above_the_other() -> None:
    assert list(change_lines(EDIT, TextStyle(40)))[1:] == [
        "  ~ A small cat has [-wiskers-], a [-long-] tail and soft ears that move.",
        "    A small cat has {+long whiskers+}, a tail and soft ears that move.",
    ]


@pytest.mark.parametrize("width", [60, 61, 80, 133])
@pytest.mark.parametrize(
    ("old", "new"), [(OLD, NEW), ("猫は長い尾を持っている" * 9, "犬は長い尾を持っている" * 9), ("x" * 300, "y")]
)
@pytest.mark.parametrize("colour", [False, True])
def test_columns_fit_the_width_and_lose_nothing(old: str, new: str, width: int, colour: bool) -> None:
    lines = list(change_lines(change(edited=((*sentences(old), *sentences(new)),)), TextStyle(width, colour)))[1:]
    plain = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in lines]
    assert all(cell_len(line) <= width for line in plain)
    assert {cell_len(line.rpartition(" |")[0]) for line in plain} == {4 + (width - 7) // 2}
    left = "".join(line.rpartition(" |")[0][4:] for line in plain)
    bare = re.sub(r"\[-|-\]|\s", "", left)
    assert bare == re.sub(r"\s", "", old)


def test_colour_takes_the_place_of_marks() -> None:
    line = list(change_lines(EDIT, TextStyle(200, colour=True)))[1]
    assert "[-" not in line
    assert "\x1b[31;9mwiskers\x1b[0m" in line
    assert "\x1b[32;1mwhiskers\x1b[0m" in line


def test_a_space_between_two_changed_words_belongs_to_them() -> None:
    old, new = word_changes("a red car.", "a blue bus.")
    assert [word for word, differs in old if differs] == ["red", " ", "car"]
    assert [word for word, differs in new if differs] == ["blue", " ", "bus"]


def test_the_statistics_have_a_bar_for_each_class_and_a_total() -> None:
    rows = [
        change(
            "cat", added=sentences("A.", "B."), removed=sentences("C."), edited=((*sentences("D."), *sentences("E.")),)
        ),
        change("guinea pig", altered=((Description("F."), Description("F.", "phrase")),), accepted=1),
    ]
    assert list(stat_lines(rows)) == [
        " cat        | 4 ++-~",
        " guinea pig | 1 =",
        " 2 classes differ: +2 -1 ~1 sentences in 1 class, 1 accepted",
    ]
    assert list(stat_lines([])) == []


def test_bars_and_names_fit_the_width() -> None:
    rows = [change("x" * 90, added=sentences(*map(str, range(900)))), change("y", removed=sentences("A."))]
    first, second, _ = stat_lines(rows, TextStyle(60))
    assert cell_len(first) <= 60
    assert "…" in first
    assert second.endswith("|   1 -"), "what differs at all is seen"
    assert first.index("|") == second.index("|")


@pytest.mark.parametrize("width", [0, 1, 20])
def test_no_width_is_too_narrow(width: int) -> None:
    rows = [change("x" * 90, added=sentences(*map(str, range(900)))), EDIT]
    assert len(list(stat_lines(rows, TextStyle(width)))) == 3
    assert len(list(change_lines(EDIT, TextStyle(width)))) == 3


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        (Provenance("g"), Provenance("g", accepted_by="review"), "accepted"),
        (Provenance("g", accepted_by="review"), Provenance("g"), "no longer accepted"),
        (Provenance("g"), Provenance("h", accepted_by="review"), "accepted, provenance"),
        (Provenance("g"), Provenance("h"), "provenance"),
    ],
)
def test_what_a_reviewer_accepted_is_said(before: Provenance, after: Provenance, fields: str) -> None:
    altered = ((Description("A.", provenance=before), Description("A.", provenance=after)),)
    assert list(change_lines(change(altered=altered)))[1:] == [f"  = A. [{fields}]"]


def test_classes_of_one_name_are_told_apart() -> None:
    rows = [ClassChange(name, "crane", sentences("A."), (), (), (), 0, 0, 0) for name in ("bird", "machine")]
    assert [line.partition("|")[0].strip() for line in stat_lines(rows)][:2] == ["crane (bird)", "crane (machine)"]


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (ChangeCounts(), "no description differs"),
        (ChangeCounts(added=1, classes=1, kinds=frozenset(["phrase"])), "+1 phrase in 1 class"),
        (
            ChangeCounts(12, 3, 2, 45, 40, 5, 4, frozenset(["sentence"])),
            "+12 -3 ~2 sentences in 4 classes, 40 accepted, 5 with another kind, provenance, score or id",
        ),
        (ChangeCounts(removed=2, classes=1, kinds=frozenset(["sentence", "phrase"])), "-2 descriptions in 1 class"),
        (ChangeCounts(altered=3, accepted=3), "3 accepted"),
    ],
)
def test_a_change_in_one_line(counts: ChangeCounts, line: str) -> None:
    assert log_line(counts) == line


def test_label_sets_that_differ() -> None:
    labels = LabelChange(("wolf",), ("fish",), (("dog", "dog", "hound"),), (("cat", None, "the\u202epet"),))
    assert list(label_lines(labels)) == [
        "new class: wolf",
        "class gone: fish",
        "renamed: dog from dog to hound",
        "note: cat from none to 'the\\u202epet'",
    ]
    assert not list(label_lines(LabelChange((), (), (), ())))
    assert label_summary(labels) == "1 new class, 1 class gone, 1 class renamed, 1 note changed"
