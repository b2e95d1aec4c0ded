"""Merging a class: what one side did holds, in either order, once, and nothing rejected comes back in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from abs_core.descriptions import Description, Provenance, Rejection
from abs_descriptions.bundles.conflicts import (
    RULES,
    Conflict,
    ConflictRule,
    MergeSide,
    Resolution,
    Resolver,
    rule_for,
)
from abs_descriptions.bundles.reconciliation import ClassSide, ReconciledClass, reconcile

SIDES = [MergeSide(f"side {name}", name, f"2025-01-0{n}T00:00:00Z", {}) for n, name in enumerate("ABC", 1)]
REVIEWERS = frozenset("ABC")
COUNT = 4

Decision = tuple[str, int]


def base_of(shares_origin: bool, accepted: Sequence[bool] = (False,) * COUNT) -> ClassSide:
    return ClassSide(
        [
            Description(
                f"T{n}",
                class_id="cat",
                provenance=Provenance("g", 0 if shares_origin else n, accepted_by="R" if accepted[n] else None),
            )
            for n in range(COUNT)
        ]
    )


@dataclass
class Reviewed:
    """What a review makes of a class, the slow and clear way."""

    records: dict[str, Description]
    refused: list[Rejection]

    @classmethod
    def of(cls, side: ClassSide) -> Reviewed:
        return cls({record.text: record for record in side.records}, list(side.refused))

    def carry_out(self, text: str, decision: str, new_text: str, reviewer: str) -> None:
        """Decide on one sentence; one that is gone or is so already stays as it is."""
        record = self.records.get(text)
        if record is None or (decision == "accept" and record.provenance.accepted_by not in (None, "R")):
            return
        if decision == "accept":
            accepted = replace(record, provenance=replace(record.provenance, accepted_by=reviewer))
            self.records[text] = accepted
        if decision == "reject":
            del self.records[text]
            self.refused.append(Rejection("cat", text, "review", record.provenance, None, reviewer))
        if decision == "edit":
            source = replace(record.provenance, edited_by=reviewer, accepted_by=None)
            edited = replace(record, text=new_text, provenance=source)
            self.records = {r.text: r for r in (edited if r is record else r for r in self.records.values())}
            self.refused.append(Rejection("cat", text, "edited", record.provenance, None, reviewer))

    @property
    def side(self) -> ClassSide:
        return ClassSide(list(self.records.values()), self.refused)


def apply(base: ClassSide, decisions: Sequence[Decision], reviewer: str) -> Reviewed:
    """A review of the whole class: edits go to one of a few texts, each once."""
    reviewed, taken = Reviewed.of(base), set[str]()
    for record, (decision, number) in zip(base.records, decisions, strict=True):
        new_text = f"E{number}"
        if decision == "edit" and new_text in taken:
            continue
        taken.add(new_text if decision == "edit" else "")
        reviewed.carry_out(record.text, decision, new_text, reviewer)
    return reviewed


def merge(base: ClassSide, *sides: ClassSide, rule: ConflictRule = "refuse") -> ReconciledClass:
    resolve: Resolver = rule_for(rule, SIDES)
    return reconcile("cat", base, sides, resolve, reviewers=REVIEWERS)


def merged_side(base: ClassSide, *sides: ClassSide) -> ClassSide:
    merged = merge(base, *sides)
    assume(not merged.conflicts)
    refused = dict.fromkeys(entry for side in sides for entry in side.refused)
    return ClassSide(merged.records, list(refused))


def facts(records: Sequence[Description]) -> set[tuple[str, str, bool, bool]]:
    """What does not depend on the order in which bundles are named."""
    return {(r.text, r.kind, r.provenance.accepted_by is not None, r.provenance.edited_by is not None) for r in records}


DECISIONS = st.lists(
    st.tuples(st.sampled_from(["", "", "accept", "reject", "edit"]), st.integers(0, COUNT)),
    min_size=COUNT,
    max_size=COUNT,
)
BASES = st.builds(base_of, st.booleans(), st.lists(st.booleans(), min_size=COUNT, max_size=COUNT))


@pytest.mark.fuzz
@given(BASES, DECISIONS, DECISIONS)
def test_a_merge_is_both_reviews_one_after_the_other_in_either_order(
    base: ClassSide, left: list[Decision], right: list[Decision]
) -> None:
    first, second = apply(base, left, "A"), apply(base, right, "B")
    merged = merge(base, first.side, second.side)
    assume(not merged.conflicts)
    for (decisions, who), start in (((right, "B"), first), ((left, "A"), second)):
        both = Reviewed(dict(start.records), list(start.refused))
        taken = set[str]()
        for record, (decision, number) in zip(base.records, decisions, strict=True):
            if decision == "edit" and f"E{number}" in taken:
                continue
            taken.add(f"E{number}" if decision == "edit" else "")
            both.carry_out(record.text, decision, f"E{number}", who)
        assert facts(merged.records) == facts(list(both.records.values()))
    assert len({record.text for record in merged.records}) == len(merged.records)


@pytest.mark.fuzz
@given(BASES, DECISIONS, DECISIONS)
def test_the_order_of_bundles_changes_nothing_but_order(
    base: ClassSide, left: list[Decision], right: list[Decision]
) -> None:
    first, second = apply(base, left, "A").side, apply(base, right, "B").side
    merged, swapped = merge(base, first, second), merge(base, second, first)
    assert {conflict.row for conflict in merged.conflicts} == {conflict.row for conflict in swapped.conflicts}
    if not merged.conflicts:
        assert facts(merged.records) == facts(swapped.records)
        assert (merged.left_out, merged.agreed) == (swapped.left_out, swapped.agreed)


@pytest.mark.fuzz
@given(BASES, DECISIONS, DECISIONS)
def test_merging_again_adds_nothing(base: ClassSide, left: list[Decision], right: list[Decision]) -> None:
    first, second = apply(base, left, "A").side, apply(base, right, "B").side
    assert merge(base, first, first).records == list(first.records)
    assert merge(base, base, first).records == list(first.records)
    both = merged_side(base, first, second)
    for again in (merge(base, both, first), merge(base, both, second), merge(base, both, both)):
        assert again.conflicts == []
        assert facts(again.records) == facts(both.records)
        if len({record.provenance.sample for record in base.records}) == COUNT:
            assert again.records == list(both.records)


@pytest.mark.fuzz
@given(BASES, DECISIONS, DECISIONS, DECISIONS)
def test_three_reviews_may_be_merged_in_any_grouping(
    base: ClassSide, left: list[Decision], middle: list[Decision], right: list[Decision]
) -> None:
    a, b, c = (apply(base, decisions, who).side for decisions, who in ((left, "A"), (middle, "B"), (right, "C")))
    together = merge(base, a, b, c)
    assume(not together.conflicts)
    first = merge(base, merged_side(base, a, b), c)
    second = merge(base, a, merged_side(base, b, c))
    assert first.conflicts == second.conflicts == []
    assert facts(first.records) == facts(second.records) == facts(together.records)


@pytest.mark.fuzz
@given(BASES, DECISIONS, DECISIONS, st.sampled_from(RULES), st.booleans())
def test_nothing_rejected_comes_back_in_silence(
    base: ClassSide, left: list[Decision], right: list[Decision], rule: ConflictRule, three_way: bool
) -> None:
    sides = [apply(base, left, "A").side, apply(base, right, "B").side]
    asked: list[str] = []
    decide = rule_for(rule, SIDES)

    def resolve(conflict: Conflict) -> Resolution | None:
        asked.append(conflict.text)
        asked.extend(stance.record.text for stance in conflict.stances if stance.record is not None)
        return decide(conflict)

    merged = reconcile("cat", base if three_way else ClassSide([]), sides, resolve, reviewers=REVIEWERS)
    for record in merged.records:
        for side in sides:
            holds = record.text in {held.text for held in side.records}
            refused = record.text in {entry.text for entry in side.refused}
            assert holds or not refused or record.text in asked


@pytest.mark.fuzz
@given(BASES, DECISIONS, DECISIONS, st.sampled_from(RULES[1:]))
def test_a_rule_leaves_one_record_a_text_and_keeps_what_lost(
    base: ClassSide, left: list[Decision], right: list[Decision], rule: ConflictRule
) -> None:
    first, second = apply(base, left, "A").side, apply(base, right, "B").side
    merged = merge(base, first, second, rule=rule)
    assert len({record.text for record in merged.records}) == len(merged.records)
    if merged.conflicts:
        assert rule in ("keep", "reject"), "what was done: two different edits, or an edit that nobody rejected"
        return
    known = {entry.text for side in (first, second) for entry in side.refused} | {e.text for e in merged.rejected}
    lost = {r.text for side in (base, first, second) for r in side.records} - {r.text for r in merged.records}
    assert lost <= known


def texts(*names: str, by: str | None = None) -> list[Description]:
    return [
        Description(name, class_id="cat", provenance=Provenance("g", n, accepted_by=by)) for n, name in enumerate(names)
    ]


def test_who_accepted_scores_and_ids_come_from_wherever_they_are() -> None:
    base = ClassSide([replace(record, scores={"a": 0.5}) for record in texts("T")])
    (record,) = base.records
    accepted = replace(record, provenance=replace(record.provenance, accepted_by="A"))
    measured = replace(record, scores={"a": 0.25, "b": 1.0}, id="t")
    expected = replace(accepted, scores={"a": 0.25, "b": 1.0}, id="t")
    for sides in ((accepted, measured), (measured, accepted)):
        assert merge(base, *(ClassSide([side]) for side in sides)).records == [expected]
    other = replace(record, provenance=replace(record.provenance, accepted_by="B"))
    assert merge(base, ClassSide([accepted]), ClassSide([other])).records == [accepted]
    plain = ClassSide(texts("T"))
    joined = merge(ClassSide([]), plain, ClassSide(texts("T", by="B")))
    assert joined.records == texts("T", by="B"), "also without a common parent"


def test_an_edit_into_the_text_of_a_rejected_sentence_is_told_from_that_sentence() -> None:
    base = base_of(True)
    first = Reviewed.of(base)
    first.carry_out("T1", "reject", "", "A")
    first.carry_out("T0", "edit", "T1", "A")
    merged = merge(base, first.side, base)
    assert [(r.text, r.provenance.edited_by) for r in merged.records] == [("T1", "A"), ("T2", None), ("T3", None)]
    second = Reviewed.of(base)
    second.carry_out("T1", "accept", "", "B")
    (conflict,) = merge(base, first.side, second.side).conflicts
    assert [(stance.decision, stance.by) for stance in conflict.stances] == [("rejected", "A"), ("accepted", "B")]


def test_an_edit_into_what_another_reviewer_rejected_is_a_conflict() -> None:
    base = base_of(False)
    rejecting, editing = Reviewed.of(base), Reviewed.of(base)
    rejecting.carry_out("T1", "reject", "", "A")
    editing.carry_out("T1", "edit", "X", "B")
    editing.carry_out("T0", "edit", "T1", "B")
    conflicts = merge(base, rejecting.side, editing.side).conflicts
    assert {(conflict.kind, conflict.text) for conflict in conflicts} == {("rejected", "T1"), ("decision", "T1")}
    assert len({conflict.row for conflict in conflicts}) == 2
    dropped = merge(base, rejecting.side, editing.side, rule="reject")
    assert [record.text for record in dropped.records] == ["T2", "T3"]


def test_what_was_rejected_before_and_was_brought_back_since_stays() -> None:
    gone = Rejection("cat", "T9", "review", Provenance("g", 9), None, "R")
    base = ClassSide(base_of(False).records, [gone])
    back = Description("T9", class_id="cat", provenance=Provenance("A", 0))
    added = ClassSide([*base.records, back], [gone])
    assert back in merge(base, added, base).records
    again = Rejection("cat", "T9", "review", Provenance("A", 0), None, "B")
    (conflict,) = merge(base, added, ClassSide(base.records, [gone, again])).conflicts
    assert [(stance.decision, stance.by) for stance in conflict.stances] == [("added", "A"), ("rejected", "B")]


def test_a_contested_sentence_of_the_base_is_decided_by_every_side() -> None:
    base = base_of(False)
    without = Reviewed.of(base)
    without.carry_out("T0", "reject", "", "A")
    sides = [without.side, base]
    assert merge(base, *sides).conflicts == []
    contested = reconcile("cat", base, sides, rule_for("refuse", SIDES), contested={"T0"})
    assert [conflict.text for conflict in contested.conflicts] == ["T0"]


def test_a_changed_kind_is_an_edit_and_two_kinds_are_a_conflict() -> None:
    base = base_of(False)
    phrase = replace(base.records[0], kind="phrase", provenance=replace(base.records[0].provenance, edited_by="A"))
    changed = ClassSide([phrase, *base.records[1:]])
    assert merge(base, base, changed).records[0] == phrase
    accepting = Reviewed.of(base)
    accepting.carry_out("T0", "accept", "", "B")
    assert [c.text for c in merge(base, changed, accepting.side).conflicts] == ["T0"]
    (conflict,) = merge(ClassSide([]), ClassSide(base.records), changed).conflicts
    assert conflict.kind == "kind"
    assert merge(ClassSide([]), ClassSide(base.records), changed, rule="last").records[0].kind == "phrase"
