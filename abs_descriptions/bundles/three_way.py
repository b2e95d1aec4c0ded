"""What several bundles made of a common parent, one class at a time: what was changed in one of them is changed.

A record of the parent that one bundle left as it was and another one accepted, edited or took away is accepted, edited
or away. Two different changes of one record are a conflict. What a bundle has beyond the parent is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from abs_core.descriptions import Description
from abs_core.errors import BundleError
from abs_core.text import quoted

__all__ = ["reconcile"]

_Origin = tuple[str, int, str | None, str | None]


@dataclass(frozen=True, slots=True)
class _Change:
    """What one bundle did to a record of the parent: the record that it has now, None where it has none."""

    source: int
    record: Description | None
    words: str


def reconcile(
    class_id: str, base: Sequence[Description], groups: Sequence[Sequence[Description]], *, first_wins: bool
) -> Iterator[tuple[int, Description]]:
    """The records of a class in the order of the bundles, each with the place of the bundle that it is taken from.

    Args:
        class_id: for messages.
        base: the parent's records of the class.
        groups: those of each bundle.
        first_wins: whether the bundle named first settles a conflict.

    Raises:
        BundleError: two bundles changed one record in different ways, and ``first_wins`` is false.
    """
    edits = [_edits(base, group) for group in groups]
    texts = [{record.text: record for record in group} for group in groups]
    settled: dict[str, tuple[int, Description] | None] = {}
    for record in base:
        changes = [
            change
            for source in range(len(groups))
            if (change := _change(source, record, texts[source], edits[source])) is not None
        ]
        if len({(change.words, change.record and change.record.text) for change in changes}) > 1 and not first_wins:
            done = " and ".join(f"{change.words} in bundle {change.source + 1}" for change in changes)
            raise BundleError(
                f"the class {quoted(class_id)} has a conflict: {quoted(record.text)} is {done}",
                remedy="Change one of the bundles, or let the first one win (--on-conflict first)",
            )
        settled[record.text] = _settled(record, changes, texts)
    written: set[str] = set()
    for source, group in enumerate(groups):
        origins = {edited.text: text for text, edited in edits[source].items()}
        for record in group:
            text = record.text if record.text in settled else origins.get(record.text)
            if text is None:
                yield source, record
                continue
            chosen = settled[text]
            if chosen is not None and text not in written:
                written.add(text)
                yield chosen


def _settled(
    record: Description, changes: Sequence[_Change], texts: Sequence[dict[str, Description]]
) -> tuple[int, Description] | None:
    if changes:
        change = changes[0]
        return None if change.record is None else (change.source, change.record)
    # All have it unchanged; one of them may have measured scores.
    return next(
        ((source, held[record.text]) for source, held in enumerate(texts) if held[record.text] != record), (0, record)
    )


def _change(
    source: int, record: Description, held: dict[str, Description], edits: dict[str, Description]
) -> _Change | None:
    now = held.get(record.text)
    if now is not None:
        accepted = now.provenance.accepted_by
        is_new = accepted is not None and accepted != record.provenance.accepted_by
        return _Change(source, now, "accepted") if is_new else None
    edited = edits.get(record.text)
    if edited is not None:
        return _Change(source, edited, f"edited to {quoted(edited.text, 40)}")
    return _Change(source, None, "taken away")


def _edits(base: Sequence[Description], group: Sequence[Description]) -> dict[str, Description]:
    """Text of the parent -> the edited record that a bundle has in its place; an edit keeps what generated the text."""
    count = Counter(map(_origin, base))
    by_origin = {_origin(record): record.text for record in base if count[_origin(record)] == 1}
    held = {record.text for record in group}
    known = {record.text for record in base}
    edits: dict[str, Description] = {}
    for record in group:
        text = by_origin.get(_origin(record))
        if (
            record.provenance.edited_by is not None
            and record.text not in known
            and text is not None
            and text not in held
        ):
            edits[text] = record
    return edits


def _origin(record: Description) -> _Origin:
    source = record.provenance
    return source.generator, source.sample, source.prompt, source.request
