"""One class of several bundles, merged against the version that all were made of. Pure.

Each side is compared with the common parent, sentence by sentence: it kept a sentence, accepted it, edited it, or has
it no longer; and it may have new ones. What one side alone did holds. What sides did alike holds once. What they did in
different ways is a conflict. Without a common parent every sentence is new.

Nothing that a reviewer of one side rejected comes back because another side still has it: where nobody of the other
side decided on it, it is left out and counted; where somebody wants it, that is a conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TypeVar

from abs_core.descriptions import Description, Provenance, Rejection
from abs_descriptions.bundles.conflicts import Conflict, Resolution, Resolver, Stance

__all__ = ["ClassSide", "ReconciledClass", "reconcile"]

_Origin = tuple[str, int, str | None, str | None]


@dataclass(frozen=True, slots=True)
class ClassSide:
    """What one bundle has of a class: its records, and what its reviewers rejected or edited away."""

    records: Sequence[Description]
    refused: Sequence[Rejection] = ()


@dataclass
class ReconciledClass:
    """The merged records of a class, and how they came about.

    ``rejected`` are texts that lost a conflict. ``left_out`` counts what a reviewer of one bundle rejected and another
    one has undecided, ``agreed`` the sentences of the parent that several sides decided on in the same way.
    """

    records: list[Description] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    left_out: int = 0
    agreed: int = 0


def reconcile(
    class_id: str,
    base: ClassSide,
    sides: Sequence[ClassSide],
    resolve: Resolver,
    *,
    reviewers: AbstractSet[str] = frozenset(),
    contested: AbstractSet[str] = frozenset(),
    decider: str | None = None,
) -> ReconciledClass:
    """Merge the records of one class.

    Args:
        class_id: the class.
        base: of the common parent; without records where there is none.
        sides: of each bundle. Generator ids mean the same in base and sides.
        resolve: decides a conflict; one that it does not decide is collected, and goes on as the first side has it.
        reviewers: generator ids of reviewers, who want what they added.
        contested: texts of the base that its own parents did not agree on; every side has decided on them.
        decider: the generator id of who decides conflicts by hand.
    """
    if not base.records and len(sides) == 1:
        return ReconciledClass(list(sides[0].records))
    if all(list(side.records) == list(sides[0].records) for side in sides) and not contested:
        return ReconciledClass(list(sides[0].records))
    return _Reconciler(class_id, base, sides, resolve, reviewers, contested, decider).run()


@dataclass
class _Slot:
    """A sentence of the result: the record, and whether its text is another than the common parent's.

    One that was decided by hand, or still has to be, is not new, since nobody is asked twice.
    """

    record: Description | None
    source: int
    is_new: bool


class _Reconciler:
    def __init__(
        self,
        class_id: str,
        base: ClassSide,
        sides: Sequence[ClassSide],
        resolve: Resolver,
        reviewers: AbstractSet[str],
        contested: AbstractSet[str],
        decider: str | None,
    ) -> None:
        self._class_id = class_id
        self._base = base.records
        self._known = frozenset(base.refused)
        self._sides = sides
        self._resolve = resolve
        self._reviewers = reviewers
        self._contested = contested
        self._decider = decider
        self._texts = [{record.text: record for record in side.records} for side in sides]
        self._refused = [_by_text(side.refused) for side in sides]
        self._result = ReconciledClass()

    def run(self) -> ReconciledClass:
        matches = [_match(self._base, side, self._known) for side in self._sides]
        settled = [self._settle(number, [match.get(number) for match in matches]) for number in range(len(self._base))]
        texts: dict[str, Description] = {}
        sources: dict[str, int] = {}
        ids: dict[str, str] = {}
        for slot in self._ordered(matches, settled):
            record = self._admitted(slot) if slot.is_new else slot.record
            if record is not None:
                self._join(record, slot.source, texts, sources, ids)
        self._result.records = list(texts.values())
        return self._result

    def _ordered(self, matches: Sequence[dict[int, Description]], settled: Sequence[_Slot]) -> Iterator[_Slot]:
        """Each sentence once: those of the first side in its order, then what the next ones have beside them.

        What the first side has no longer keeps its place among the sentences of the base.
        """
        order: list[_Slot | int] = []
        followers: dict[int | None, list[int]] = {}
        placed: set[int] = set()
        for source, (side, match) in enumerate(zip(self._sides, matches, strict=True)):
            numbers = {record.text: number for number, record in match.items()}
            anchor: int | None = None
            for record in side.records:
                number = numbers.get(record.text)
                if number is None:
                    order.append(_Slot(record, source, is_new=True))
                elif number in placed:
                    anchor = number
                else:
                    placed.add(number)
                    (order if source == 0 else followers.setdefault(anchor, [])).append(number)
        yield from (settled[number] for number in _followed(None, followers))
        for item in order:
            if isinstance(item, _Slot):
                yield item
            else:
                yield from (settled[number] for number in (item, *_followed(item, followers)))

    def _settle(self, number: int, records: Sequence[Description | None]) -> _Slot:
        """What becomes of a record of the base, given what each side has in its place."""
        base = self._base[number]
        held = [record or self._edited_elsewhere(source, base, records) for source, record in enumerate(records)]
        stances = [self._stance(source, base, record) for source, record in enumerate(held)]
        changes = [stance for stance in stances if stance.decision != "kept"]
        contents = {_content(stance) for stance in (stances if base.text in self._contested else changes)}
        if len(contents) > 1:
            chosen, is_settled = self._decide(Conflict("decision", self._class_id, base.text, base, tuple(stances)))
            record, source = chosen.record, chosen.source
        else:
            self._result.agreed += len(changes) > 1
            is_settled = False
            record, source = _combined(base, stances, changes)
        is_new = record is not None and (record.text, record.kind) != (base.text, base.kind)
        return _Slot(record, source, is_new and not is_settled)

    def _stance(self, source: int, base: Description, record: Description | None) -> Stance:
        if record is None:
            entry = next(reversed(self._fresh(source, base.text)), None)
            by, reason = (None, None) if entry is None else (entry.rejected_by, entry.detail)
            return Stance(source, "rejected", None, by, reason)
        if (record.text, record.kind) != (base.text, base.kind):
            return Stance(source, "edited", record, record.provenance.edited_by)
        accepted = record.provenance.accepted_by
        if accepted is not None and accepted != base.provenance.accepted_by:
            return Stance(source, "accepted", record, accepted)
        return Stance(source, "kept", record)

    def _edited_elsewhere(
        self, source: int, base: Description, records: Sequence[Description | None]
    ) -> Description | None:
        """What a side has in place of a record that it edited into the text of another, so that both became one."""
        if not any(entry.reason == "edited" for entry in self._fresh(source, base.text)):
            return None
        edits = (record.text for record in records if record is not None and record.text != base.text)
        return next((self._texts[source][text] for text in edits if text in self._texts[source]), None)

    def _fresh(self, source: int, text: str) -> list[Rejection]:
        """The rejections of a text in a side that the base does not have."""
        return [entry for entry in self._refused[source].get(text, ()) if entry not in self._known]

    def _admitted(self, slot: _Slot) -> Description | None:
        """A record whose text the base lacks; None where a reviewer of another side rejected that text."""
        record = slot.record
        if record is None:
            return None
        holders = [source for source, texts in enumerate(self._texts) if record.text in texts]
        refusals = [
            {entry.rejected_by for entry in refused.get(record.text, ()) if entry.rejected_by is not None}
            for refused in self._refused
        ]
        known = {reviewer for source in holders for reviewer in refusals[source]}
        refusing = [source for source, by in enumerate(refusals) if source not in holders and by - known]
        if not refusing or not holders:
            return record
        if not any(self._is_wanted(self._texts[source][record.text]) for source in holders):
            self._result.left_out += 1
            return None
        stances = [*(self._wish(source, record.text) for source in holders), *(
            self._refusal(source, record.text) for source in refusing)]  # fmt: skip
        ordered = tuple(sorted(stances, key=lambda stance: stance.source))
        return self._decide(Conflict("rejected", self._class_id, record.text, None, ordered))[0].record

    def _is_wanted(self, record: Description) -> bool:
        source = record.provenance
        return source.accepted_by is not None or source.edited_by is not None or source.generator in self._reviewers

    def _wish(self, source: int, text: str) -> Stance:
        record = self._texts[source][text]
        provenance = record.provenance
        if provenance.accepted_by is not None:
            return Stance(source, "accepted", record, provenance.accepted_by)
        if provenance.edited_by is not None:
            return Stance(source, "edited", record, provenance.edited_by)
        by = provenance.generator if provenance.generator in self._reviewers else None
        return Stance(source, "added", record, by)

    def _refusal(self, source: int, text: str) -> Stance:
        entry = next(e for e in reversed(self._refused[source][text]) if e.rejected_by is not None)
        return Stance(source, "rejected", None, entry.rejected_by, entry.detail)

    def _join(
        self,
        record: Description,
        source: int,
        texts: dict[str, Description],
        sources: dict[str, int],
        ids: dict[str, str],
    ) -> None:
        """Add a record to the result; one with a text that is there already becomes one with it."""
        existing = texts.get(record.text)
        if existing is not None and existing.kind != record.kind:
            stances = (
                Stance(sources[record.text], "added", existing), Stance(source, "added", record),
            )  # fmt: skip
            chosen, _ = self._decide(Conflict("kind", self._class_id, record.text, None, stances))
            texts[record.text] = chosen.record or existing
            return
        if existing is not None:
            texts[record.text] = _united([existing, record])
            return
        if record.id is not None and ids.get(record.id, record.text) != record.text:
            record = self._without_one_id(record, source, texts, sources, ids)
        if record.id is not None:
            ids[record.id] = record.text
        texts[record.text], sources[record.text] = record, source

    def _without_one_id(
        self,
        record: Description,
        source: int,
        texts: dict[str, Description],
        sources: dict[str, int],
        ids: dict[str, str],
    ) -> Description:
        """The record with the id that another one has, or without it; the one that loses the conflict loses the id."""
        other = texts[ids[record.id or ""]]
        stances = (Stance(sources[other.text], "added", other), Stance(source, "added", record))
        chosen, _ = self._decide(Conflict("id", self._class_id, other.text, None, stances))
        if chosen.record is not record:
            return replace(record, id=None)
        texts[other.text] = replace(other, id=None)
        return record

    def _decide(self, conflict: Conflict) -> tuple[Stance, bool]:
        """The stance that holds, perhaps one of whoever decides by hand, and whether nothing more is to be asked."""
        resolution = self._resolve(conflict)
        if resolution is None:
            self._result.conflicts.append(conflict)
            return conflict.stances[0], True
        if resolution.source is None:
            chosen = self._own(conflict, resolution)
        else:
            chosen = next(
                (stance for stance in conflict.stances if stance.source == resolution.source), conflict.stances[0]
            )
        if conflict.kind in ("decision", "rejected"):
            self._reject_losers(conflict, chosen, resolution)
        return chosen, not resolution.by_rule

    def _own(self, conflict: Conflict, resolution: Resolution) -> Stance:
        held = [stance.record for stance in conflict.stances if stance.record is not None]
        record = conflict.record or held[0]
        source = next(stance.source for stance in conflict.stances if stance.record is not None)
        if resolution.decision == "reject":
            return Stance(source, "rejected", None, self._decider, resolution.reason or None)
        if resolution.decision == "edit" and resolution.new_text != record.text:
            provenance = replace(record.provenance, edited_by=self._decider, accepted_by=None)
            return Stance(
                source, "edited", replace(record, text=resolution.new_text, scores=None, provenance=provenance)
            )
        accepted = replace(record, provenance=replace(record.provenance, accepted_by=self._decider))
        return Stance(source, "accepted", accepted)

    def _reject_losers(self, conflict: Conflict, chosen: Stance, resolution: Resolution) -> None:
        """What lost goes to the rejected completions, so that no later merge brings it back in silence."""
        by = chosen.by if resolution.by_rule else self._decider
        kept = None if chosen.record is None else chosen.record.text
        lost = [stance.record for stance in conflict.stances if stance.record is not None]
        lost += [conflict.record] if conflict.record is not None and resolution.source is None else []
        for record in {record.text: record for record in lost if record.text != kept}.values():
            reason = "conflict" if resolution.source is not None else "review" if kept is None else "edited"
            entry = Rejection(self._class_id, record.text, reason, record.provenance, resolution.reason or None, by)
            has_entry = any(e.rejected_by == by for refused in self._refused for e in refused.get(record.text, ()))
            if not has_entry:
                self._result.rejected.append(entry)


def _followed(anchor: int | None, followers: Mapping[int | None, Sequence[int]]) -> Iterator[int]:
    for number in followers.get(anchor, ()):
        yield number
        yield from _followed(number, followers)


def _match(base: Sequence[Description], side: ClassSide, known: AbstractSet[Rejection]) -> dict[int, Description]:
    """Position in the base -> the record that a side has in its place; what has no place is new.

    An edited record keeps the generator, prompt, sample and request of the text that it was made of. Where several
    records share these, the texts that the side's reviewers edited away tell which ones were edited, and by whom.
    """
    numbers = {_identity(record): number for number, record in enumerate(base)}
    matched: dict[int, Description] = {}
    rest: list[Description] = []
    for record in side.records:
        number = numbers.get(_identity(record))
        if number is None:
            rest.append(record)
        else:
            matched[number] = record
    fresh = [entry for entry in side.refused if entry not in known]
    edits = {(entry.text, entry.rejected_by) for entry in fresh if entry.reason == "edited"}
    replaced = {text for text, _ in edits}
    unmatched: dict[_Origin, list[int]] = {}
    for number, record in enumerate(base):
        if number not in matched:
            unmatched.setdefault(_origin(record), []).append(number)
    for origin, records in _grouped(rest, _origin).items():
        free = unmatched.get(origin, [])
        if len(free) != len(records):
            free = [number for number in free if base[number].text in replaced]
        if len(free) == len(records):
            matched |= dict(zip(free, records, strict=True))
            continue
        for reviewer, edited in _grouped(records, lambda record: record.provenance.edited_by).items():
            places = [number for number in free if (base[number].text, reviewer) in edits]
            if len(places) == len(edited):
                matched |= dict(zip(places, edited, strict=True))
    placed = {id(record) for record in matched.values()}
    by_text = {record.text: record for record in rest if id(record) not in placed}
    gone = {entry.text for entry in fresh}
    for number, record in enumerate(base):
        if number not in matched and record.text in by_text and record.text not in gone:
            matched[number] = by_text[record.text]
    return matched


def _by_text(refused: Sequence[Rejection]) -> dict[str, list[Rejection]]:
    entries: dict[str, list[Rejection]] = {}
    for entry in refused:
        entries.setdefault(entry.text, []).append(entry)
    return entries


def _identity(record: Description) -> tuple[str, _Origin, str | None]:
    # An edit into the text of a sentence that is gone has its text and may have its origin, and is another.
    return record.text, _origin(record), record.provenance.edited_by


def _origin(record: Description) -> _Origin:
    source = record.provenance
    return source.generator, source.sample, source.prompt, source.request


_Key = TypeVar("_Key")


def _grouped(records: Sequence[Description], key: Callable[[Description], _Key]) -> dict[_Key, list[Description]]:
    """The records that were edited, by a key."""
    groups: dict[_Key, list[Description]] = {}
    for record in records:
        if record.provenance.edited_by is not None:
            groups.setdefault(key(record), []).append(record)
    return groups


def _content(stance: Stance) -> tuple[str, str, str] | None:
    if stance.record is None:
        return None
    is_edited = stance.decision == "edited"
    return stance.record.text, stance.record.kind, "edited" if is_edited else stance.decision


def _combined(
    base: Description, stances: Sequence[Stance], changes: Sequence[Stance]
) -> tuple[Description | None, int]:
    """What all sides agree on, and the first side that has it."""
    lead = changes[0] if changes else stances[0]
    if lead.record is None:
        return None, lead.source
    content = (lead.record.text, lead.record.kind)
    others = [
        stance.record
        for stance in (*changes, *stances)
        if stance.record is not None and (stance.record.text, stance.record.kind) == content
    ]
    return _united([lead.record, *others], base if content == (base.text, base.kind) else None), lead.source


def _united(records: Sequence[Description], base: Description | None = None) -> Description:
    """The first of several records of one text, with who accepted it, the scores and the id that others have.

    A score that differs from the base's was measured anew and holds.
    """
    first = records[0]
    before = {} if base is None or base.scores is None else base.scores
    scores: dict[str, float] = {}
    for record in records:
        for name, value in (record.scores or {}).items():
            if name not in scores or (scores[name] == before.get(name) and value != scores[name]):
                scores[name] = value
    accepted = next((r.provenance.accepted_by for r in records if r.provenance.accepted_by is not None), None)
    source: Provenance = first.provenance
    if source.accepted_by is None and accepted is not None:
        source = replace(source, accepted_by=accepted)
    identifier = next((record.id for record in records if record.id is not None), None)
    return replace(first, provenance=source, scores=scores or None, id=identifier)
