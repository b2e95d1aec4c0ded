"""Records checked and spelled by the million: what ``RecordRules.fault`` and ``spell_record`` do, but faster. Pure."""

from __future__ import annotations

from dataclasses import replace
from json.encoder import encode_basestring
from typing import Any
from unicodedata import normalize

from abs_descriptions.bundles.format import MAX_INTEGER, Description, text_fault
from abs_descriptions.bundles.lines import LineFault, RecordRules, are_scores
from abs_descriptions.bundles.spelling import spell_head, spell_record, spell_scores
from abs_descriptions.references import DIGEST

__all__ = ["RecordSpeller", "nfc"]

_MEMORY = 10_000


class RecordSpeller:
    """Spells the records of one bundle.

    The fast way is for records without an id and a reviewer whose class, kind, generator and prompt were met before; it
    gives a line or nothing. The slow one brings strings to NFC and says what is wrong.
    """

    def __init__(self, rules: RecordRules) -> None:
        self._rules = rules
        self._heads: dict[tuple[str, str, str, str | None], str] = {}
        self._request: str | None = None

    def spell(self, record: Description) -> tuple[Description, str]:
        """The record, its strings in NFC, and its spelling.

        Raises:
            LineFault: the record breaks a rule.
            TypeError, AttributeError: a field has the wrong type.
        """
        line = self._spell_fast(record)
        return (record, line) if line is not None else self._spell_slowly(record)

    def _spell_fast(self, record: Description) -> str | None:
        source, text, scores = record.provenance, record.text, record.scores
        head = self._heads.get((record.class_id, record.kind, source.generator, source.prompt))
        sample, request = source.sample, source.request
        if (
            head is None
            or record.id is not None
            or source.accepted_by is not None
            or source.edited_by is not None
            or type(sample) is not int
            or not 0 <= sample <= MAX_INTEGER
            or text_fault(text) is not None
        ):
            return None
        if request is not None and request != self._request:
            if DIGEST.fullmatch(request) is None:
                return None
            self._request = request
        asked = "" if request is None else f'"request":"{request}",'
        if scores is None:
            return f'{head}{asked}"sample":{sample}}},"text":{encode_basestring(text)}}}'
        if not are_scores(scores) or self._rules.scores_fault(scores) is not None:
            return None
        scored = spell_scores(scores)
        return f'{head}{asked}"sample":{sample}}},"scores":{scored},"text":{encode_basestring(text)}}}'

    def _spell_slowly(self, record: Description) -> tuple[Description, str]:
        fault = self._rules.fault(record)
        if fault is not None:
            record = _normalised(record)
            fault = self._rules.fault(record)
        if fault is not None:
            raise LineFault(fault, "Clean the descriptions before writing them")
        source = record.provenance
        if record.id is None and source.accepted_by is None and source.edited_by is None:
            if len(self._heads) >= _MEMORY:
                self._heads.clear()
            self._heads[record.class_id, record.kind, source.generator, source.prompt] = spell_head(record)
        return record, spell_record(record)


def _normalised(record: Description) -> Description:
    """The record with its free strings in NFC."""
    given = record.provenance
    source = replace(
        given,
        generator=nfc(given.generator),
        prompt=nfc(given.prompt),
        accepted_by=nfc(given.accepted_by),
        edited_by=nfc(given.edited_by),
    )
    return replace(record, class_id=nfc(record.class_id), text=nfc(record.text), id=nfc(record.id), provenance=source)


def nfc(value: Any) -> Any:
    """A string in Unicode form NFC; anything else as it is, for whoever checks it next."""
    return normalize("NFC", value) if isinstance(value, str) else value
