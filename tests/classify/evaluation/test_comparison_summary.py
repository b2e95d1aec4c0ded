"""Tables of a comparison of two bundles: for a terminal, for a merge request, as JSON; with hostile names and texts."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from result_records import make_records

from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.bundle_comparison import (
    BundleComparison,
    ClassComparison,
    GainCriteria,
    SentenceComparison,
)
from abs_classify.evaluation.metrics import PairedComparison, evaluate_ranks
from abs_classify.evaluation.sentence_changes import ChangedSentence
from abs_core.descriptions import Description

HOSTILE = "</code>|**x** <img src=x>\n# [a](http://b.c) `c` @admin #1 \x1b[2J\u202e"


def gain(won: int, lost: int, images: int = 40) -> PairedComparison:
    return PairedComparison.of_counts(
        "new", "old", both=images - won - lost - 1, first_only=won, second_only=lost, neither=1
    )


def entry(
    name: str, alone: PairedComparison | None, *, changed: int = 1, lost: int = 0, **more: Any
) -> ClassComparison:
    return ClassComparison(name, name, changed, 0, 0, gain(0, lost, 9), alone, **{"lost_to": (), **more})


def comparison(classes: list[ClassComparison], sentences: list[SentenceComparison]) -> BundleComparison:
    ranks = np.array([1] * 25 + [2] * 15)
    first, second = (make_records([evaluate_ranks("abs", ranks, np.zeros_like(ranks), 4)])[0] for _ in range(2))
    return BundleComparison(
        "things@1.0.0#sha256:aa",
        "things@1.1.0#sha256:bb",
        GainCriteria(),
        (first, second),
        gain(1, 15),
        classes,
        sentences,
        ["overlap: 100 % of the images, it says", "warning: skipped one"],
        WorkCounts(),
    )


def changed(
    name: str, alone: PairedComparison | None, old: str = "", new: str = "", *, is_only: bool = False
) -> SentenceComparison:
    change = ChangedSentence(name, Description(old) if old else None, Description(new) if new else None)
    return SentenceComparison(change, alone, None if alone is None else 3, is_only)


SAMPLE = comparison(
    [
        entry("ant", gain(2, 0)),
        entry("bee", gain(0, 14), lost=6, lost_to=(("ant", 5), ("cat", 1))),
        entry("cat", None, changed=0, lost=1),
        entry("dog", None, changed=0),
    ],
    [
        changed("ant", gain(2, 0), new="It has six legs."),
        changed("bee", gain(0, 14), "A striped bee.", "A yellow thing."),
        changed("bee", None, new="Alone.", is_only=True),
    ],
)


def test_a_terminal_shows_the_costliest_change_first() -> None:
    text = str(SAMPLE)
    assert text.index("\nbee ") < text.index("\nant ")
    assert text.index("A yellow thing.") < text.index("It has six legs.")
    assert "failed: the gain is -35.0 points of top-1 [" in text
    assert "  bee: 0 won, 14 lost, -35.0 [" in text
    assert "  bee: the only sentence\n    + Alone." in text
    assert "    - A striped bee.\n    + A yellow thing." in text
    others = text.partition("other classes that won or lost images:")[2].partition("sentences that changed")[0]
    assert ("cat" in others, "dog" in others, "alone" in others) == (True, False, False)
    assert "note: bee lost 5 images to ant" in text
    assert text.splitlines()[-1] == "warning: skipped one"
    assert "not corrected for their number" in text


def test_a_merge_request_shows_verdict_tables_and_remarks() -> None:
    lines = SAMPLE.to_markdown().splitlines()
    assert lines[0] == "## Test of the descriptions"
    assert lines[2].startswith("❌ **Failed: the gain is -35.0 points of top-1 [")
    assert any(
        re.fullmatch(r"\| \*\*gain\*\* \| \*\*-35.0 \[.*\]\*\* \| 1 won, 15 lost, p < 0.001 \|", line) for line in lines
    )
    assert any(
        line.startswith("| bee | edited | <del>A striped bee.</del><br><ins>A yellow thing.</ins> | 0 | 14 |")
        for line in lines
    )
    assert "- overlap: 100 % of the images, it says" in lines
    # every row of a table has as many cells as its head
    for head, rule in pairwise(lines):
        if re.fullmatch(r"\|[:|-]+\|", rule):
            at = lines.index(rule)
            rows = [row for row in lines[at + 1 :][: lines[at:].index("")] if row.startswith("|")]
            assert {row.count("|") for row in rows} == {head.count("|")}


def test_nothing_that_comes_from_outside_is_markup() -> None:
    hostile = comparison(
        [entry(HOSTILE, gain(0, 1), lost=1, lost_to=((HOSTILE, 1),))],
        [changed(HOSTILE, gain(0, 1), HOSTILE, "www.x.y")],
    )
    shown = hostile.to_markdown()
    for text in re.findall(r"<code>(.*?)</code>", shown):
        assert re.fullmatch(r"(?:[^\W_]|[ ,'()]|&#\d+;|[^\x00-\x7f])*", text)
    plain = re.sub(r"<code>.*?</code>", "", shown)
    assert set(re.findall(r"</?[a-z][^>]*>", plain)) == {
        "<del>",
        "</del>",
        "<br>",
        "<ins>",
        "</ins>",
        "<details>",
        "<summary>",
        "</summary>",
        "</details>",
    }
    for mark in ("@", "#1", "http:", "www.", "`", "\x1b", "\u202e", "![", "]("):
        assert mark not in plain
    assert "\x1b" not in str(hostile)
    assert "\u202e" not in str(hostile)


@pytest.mark.parametrize("text", ["A bird: red, 5 % bigger; it's (nearly) open_clip - fine.", "Ein Vögelchen = 3 + 4?"])
def test_ordinary_sentences_stay_as_they_are(text: str) -> None:
    assert f"| {text} |" in comparison([entry("a", None)], [changed("a", None, new=text)]).to_markdown()


def test_json_has_everything() -> None:
    value = SAMPLE.to_dict()
    assert (value["passed"], value["criteria"]) == (False, {"min_gain": None, "max_loss": None})
    assert [item["class"] for item in value["classes"]] == ["ant", "bee", "cat", "dog"]
    bee = value["classes"][1]
    assert bee["lost_to"] == [{"class": "ant", "images": 5}, {"class": "cat", "images": 1}]
    assert (bee["alone"]["won"], bee["alone"]["lost"], bee["alone"]["points"]) == (0, 14, -35.0)
    assert (bee["gain"]["right_before"], bee["gain"]["right_after"]) == (8, 2)
    edited = value["sentences"][1]
    assert (edited["change"], edited["old"], edited["new"], edited["relabelled"]) == (
        "edited",
        "A striped bee.",
        "A yellow thing.",
        3,
    )
    assert len(value["results"]) == 2


def test_long_lists_are_cut_and_say_so() -> None:
    names = [f"class {number}" for number in range(30)]
    long = comparison(
        [entry(name, gain(0, 1)) for name in names], [changed(name, gain(0, 1), new="Words.") for name in names]
    )
    for shown in (str(long), long.to_markdown()):
        assert "lasses that changed, 15 of 30" in shown
        assert "entences that changed, 20 of 30" in shown
    assert len(long.to_dict()["classes"]) == 30


def test_a_summary_fits_a_comment_whatever_it_holds() -> None:
    names = [f"{number} {HOSTILE * 20}" for number in range(40)]
    long = comparison(
        [entry(name, gain(0, 1), lost_to=((names[0], 1),)) for name in names],
        [changed(name, gain(0, 1), "`" * 4000, "|" * 4000) for name in names],
    )
    long = replace(long, old="#" * 4000, new="_" * 4000, remarks=[f"{number}{'<' * 4000}" for number in range(100)])
    shown = long.to_markdown()
    assert re.search("\\n- [0-9]+ more remarks, see --json\n\n</details>", shown)
    assert len(shown) < 65_536


def test_nothing_to_test_is_said_and_passes() -> None:
    same = BundleComparison("a@1", "a@2", GainCriteria(min_gain=5), None, None, (), (), (), WorkCounts())
    assert str(same).splitlines() == ["OLD a@1", "NEW a@2", "nothing to test: OLD and NEW have the same sentences"]
    assert "✅ **Nothing to test" in same.to_markdown()
    assert (same.to_dict()["passed"], same.to_dict()["results"]) == (True, [])
