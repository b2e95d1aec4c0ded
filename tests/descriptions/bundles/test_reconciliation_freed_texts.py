"""Reviews that also edit sentences into texts which the same review rejects or edits away."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_core.descriptions import Description, Provenance, Rejection
from abs_descriptions.bundles.conflicts import rule_for
from abs_descriptions.bundles.reconciliation import ClassSide, ReconciledClass, reconcile

BASE = ClassSide([Description(f"T{n}", class_id="cat", provenance=Provenance("g", n)) for n in range(4)])


def reviewed(seed: int, who: str) -> ClassSide:
    """A review that decides on all sentences at once, as review files do."""
    chance = random.Random(f"{seed} {who}")
    while (side := decided(chance, who)) is None:
        pass
    return side


def decided(chance: random.Random, who: str) -> ClassSide | None:
    """What a review makes of the class; None if two sentences would have one text."""
    records: list[Description] = []
    refused: list[Rejection] = []
    for record in BASE.records:
        decision = chance.choice(["", "", "accept", "reject", "edit"])
        source = record.provenance
        if decision in ("reject", "edit"):
            reason = "review" if decision == "reject" else "edited"
            refused.append(Rejection("cat", record.text, reason, source, None, who))
        if decision == "edit":
            new_text = chance.choice(["E0", "E1", *(r.text for r in BASE.records if r is not record)])
            records.append(replace(record, text=new_text, provenance=replace(source, edited_by=who)))
        elif decision == "accept":
            records.append(replace(record, provenance=replace(source, accepted_by=who)))
        elif decision == "":
            records.append(record)
    return ClassSide(records, refused) if len({record.text for record in records}) == len(records) else None


def merge(*sides: ClassSide) -> ReconciledClass:
    return reconcile("cat", BASE, sides, rule_for("refuse", []), reviewers=frozenset("AB"))


def facts(merged: ReconciledClass) -> set[tuple[str, bool, bool]]:
    return {(r.text, r.provenance.accepted_by is not None, r.provenance.edited_by is not None) for r in merged.records}


@pytest.mark.fuzz
@given(st.integers(0, 10**6))
def test_they_add_up_in_either_order_once_and_bring_nothing_back(seed: int) -> None:
    first, second = reviewed(seed, "A"), reviewed(seed, "B")
    merged, swapped = merge(first, second), merge(second, first)
    assert len({record.text for record in merged.records}) == len(merged.records)
    assert {conflict.row for conflict in merged.conflicts} == {conflict.row for conflict in swapped.conflicts}
    if merged.conflicts:
        return
    assert facts(merged) == facts(swapped)
    texts = {record.text for record in merged.records}
    for side in (first, second):
        assert not {entry.text for entry in side.refused} & texts - {record.text for record in side.records}
    both = ClassSide(merged.records, list(dict.fromkeys([*first.refused, *second.refused])))
    again = merge(both, first)
    assert not again.conflicts
    assert facts(again) == facts(merged)
