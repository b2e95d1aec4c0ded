"""Read bundles as a stream: every rule of the format is checked, memory stays bounded by one class.

What was read is known to be whole only when the iteration has ended: counts and digests come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, cast

import jsonlines

from abs_core.canonical import canonical_json
from abs_core.printable import printable
from abs_descriptions.bundles.format import MAX_HEADER_BYTES, Description
from abs_descriptions.bundles.header import parse_header
from abs_descriptions.bundles.lines import FETCH, LineFault, RecordRules, check_canonical, parse_json
from abs_descriptions.bundles.migrations import MIGRATIONS, Migration
from abs_descriptions.bundles.models import BundleHeader
from abs_descriptions.bundles.rejected import check_rejected, rejected_path
from abs_descriptions.bundles.scan import LineScan, open_scan
from abs_descriptions.references import quoted

__all__ = [
    "Bundle",
    "BundlePass",
    "iter_records",
    "load_descriptions",
    "open_pass",
    "read_bundle",
    "read_header",
    "validate",
]


@dataclass(frozen=True)
class Bundle:
    """A validated bundle file. ``digest`` is the sha256 of all its bytes."""

    path: Path
    header: BundleHeader
    digest: str

    @property
    def reference(self) -> str:
        """The full pinned reference, ``name@version#sha256:...``."""
        return f"{self.header.name}@{self.header.version}#{self.digest}"

    def records(self) -> Iterator[Description]:
        """All records in file order; raises ``BundleError`` if the file is no longer the one that was validated."""
        return iter_records(self.path, digest=self.digest)

    def descriptions(self) -> dict[str, list[Description]]:
        """Class id -> its records, as ``load_descriptions``; raises ``BundleError`` as ``records`` does."""
        return load_descriptions(self.path, digest=self.digest)


def read_header(path: Path) -> BundleHeader:
    """The header of a bundle. Checks line 1 alone: the records may still be torn or false.

    Raises:
        StorageError: the file cannot be read.
        BundleError: the header breaks a rule; names file and line.
    """
    with open_pass(path) as reading:
        return reading.header


def iter_records(path: Path, *, digest: str | None = None) -> Iterator[Description]:
    """The records of a bundle in file order, as a stream.

    Args:
        digest: what the sha256 of the whole file must be, ``sha256:...``; None: not compared.

    Raises:
        StorageError: the file cannot be read.
        BundleError: a rule is broken; names file and line. Counts and digests are compared after the last record.
    """
    with open_pass(path) as reading:
        yield from reading.records()
        reading.finish(digest)


def load_descriptions(path: Path, *, digest: str | None = None) -> dict[str, list[Description]]:
    """Class id -> its records, in label set order. A class without records is absent.

    Raises:
        StorageError, BundleError: as ``iter_records``; nothing is returned from a broken file.
    """
    loaded: dict[str, list[Description]] = {}
    for record in iter_records(path, digest=digest):
        loaded.setdefault(record.class_id, []).append(record)
    return loaded


def validate(path: Path, *, digest: str | None = None) -> BundleHeader:
    """Check a whole bundle, and the rejected completions beside it if they are there.

    Args:
        digest: what the sha256 of the whole file must be, ``sha256:...``; None: not compared.

    Returns:
        The header.

    Raises:
        StorageError: a file cannot be read.
        BundleError: a rule is broken; names file and line.
    """
    return read_bundle(path, digest=digest).header


def read_bundle(path: Path, *, digest: str | None = None) -> Bundle:
    """Validate a bundle and return what names it; arguments and errors as ``validate``."""
    with open_pass(path) as reading:
        reading.check_records()
        reading.finish(digest)
        bundle = Bundle(path, reading.header, reading.scan.digest)
    if rejected_path(path).exists():
        check_rejected(path, bundle.header)
    return bundle


@contextmanager
def open_pass(path: Path, migrations: Mapping[int, Migration] = MIGRATIONS) -> Iterator[BundlePass]:
    """Open a bundle, read its header and stand before its records; errors as ``read_header``."""
    with open_scan(path) as scan:
        yield BundlePass(scan, migrations)


class BundlePass:
    """One pass over one bundle."""

    def __init__(self, scan: LineScan, migrations: Mapping[int, Migration]) -> None:
        self.scan = scan
        line = scan.first_line(MAX_HEADER_BYTES)
        try:
            self.header, self._steps = parse_header(line, migrations)
        except LineFault as fault:
            raise scan.error(fault) from None
        classes = [entry.id for entry in self.header.label_set.classes]
        self._rules = RecordRules(classes, [generator.id for generator in self.header.generators])
        self._sequence = _Sequence(classes, self.header.counts.records)

    def records(self) -> Iterator[Description]:
        """All records. Raises ``BundleError``; ``finish`` is to follow."""
        try:
            with jsonlines.Reader(self.scan.lines(), loads=cast("Any", self._read)) as reader:
                for record in cast("Iterator[Description]", reader):
                    self._accept(record.class_id, record.id, encode_basestring(record.text)[1:-1])
                    yield record
        except LineFault as fault:
            raise self.scan.error(fault) from None

    def check_records(self) -> None:
        """Check all records without building them. Raises ``BundleError``; ``finish`` is to follow."""
        try:
            with jsonlines.Reader(self.scan.lines(), loads=cast("Any", self._fields)) as reader:
                for class_id, ident, text in cast("Iterator[tuple[str, str | None, str]]", reader):
                    self._accept(class_id, ident, text)
        except LineFault as fault:
            raise self.scan.error(fault) from None

    def finish(self, digest: str | None) -> None:
        """Compare counts and digests, after the last record.

        Raises:
            BundleError: fewer records or other counts than the header says, or bytes that are not the expected ones.
        """
        fault = self._final_fault(digest)
        if fault is not None:
            raise self.scan.error(LineFault(fault, FETCH))

    def _final_fault(self, digest: str | None) -> str | None:
        counts, seen = self.header.counts, self._sequence
        if seen.records != counts.records:
            return f"the file ends after {seen.records} of the header's {counts.records} records: it is torn or edited"
        if seen.classes != counts.classes:
            return f"the header counts {counts.classes} classes with records, the file has {seen.classes}"
        if self.scan.body_digest != self.header.records_digest:
            return f"the records have the digest {self.scan.body_digest}, the header says {self.header.records_digest}"
        if digest is not None and digest != self.scan.digest:
            return f"the file has the digest {self.scan.digest}, expected was {printable(digest, 80)}"
        return None

    def _read(self, line: str) -> Description:
        return self._migrated(line) if self._steps else self._rules.read(line)

    def _fields(self, line: str) -> tuple[str, str | None, str]:
        fields = None if self._steps else self._rules.fast_match(line)
        if fields is not None:
            return fields[0], fields[1], fields[-1]
        record = self._migrated(line) if self._steps else self._rules.read_slowly(line)
        return record.class_id, record.id, encode_basestring(record.text)[1:-1]

    def _migrated(self, line: str) -> Description:
        value = parse_json(line)
        check_canonical(value, line)
        for step in self._steps:
            value = step.record(value)
        return self._rules.read_slowly(canonical_json(value))

    def _accept(self, class_id: str, ident: str | None, text: str) -> None:
        suspect = self._sequence.add(class_id, ident, text)
        if suspect is not None:
            self._confirm(suspect, class_id, ident, text)

    def _confirm(self, suspect: str, class_id: str, ident: str | None, text: str) -> None:
        """Raise if an earlier record of the class really has this id or text, not only its hash."""
        with open_scan(self.scan.path) as again:
            again.first_line(MAX_HEADER_BYTES)
            for line in again.lines():
                if again.number >= self.scan.number:
                    return
                earlier = self._fields(line)
                if earlier[0] == class_id and (earlier[2] == text if suspect == "text" else earlier[1] == ident):
                    shown = quoted(text if suspect == "text" else ident or "")
                    raise LineFault(
                        f"the class {quoted(class_id)} has the {suspect} {shown} already on line {again.number}",
                        "Remove one of the two and write the bundle again",
                    )


class _Sequence:
    """What one record says about the next: classes in label set order, no text and no id twice in a class.

    Hashes stand for the texts, so that a million of them fit; an equal hash is a suspicion, not a finding.
    """

    def __init__(self, classes: list[str], expected: int) -> None:
        self._positions = {class_id: position for position, class_id in enumerate(classes)}
        self._expected = expected
        self._current = -1
        self._texts: set[int] = set()
        self._ids: set[int] = set()
        self.classes = 0
        self.records = 0

    def add(self, class_id: str, ident: str | None, text: str) -> str | None:
        """Take one record; returns "text" or "id" where that may have been there before in this class."""
        position = self._positions[class_id]
        if position != self._current:
            self._next_class(class_id, position)
        self.records += 1
        if self.records > self._expected:
            raise LineFault(f"more records than the header's {self._expected}", FETCH)
        suspect = "text" if _seen(self._texts, text) else None
        if ident is not None and _seen(self._ids, ident):
            suspect = suspect or "id"
        return suspect

    def _next_class(self, class_id: str, position: int) -> None:
        if position < self._current:
            raise LineFault(
                f"the class {quoted(class_id)} stands after a class that follows it in the label set",
                "Write bundles with write_bundle, which groups the records by class",
            )
        self._current = position
        self.classes += 1
        self._texts = set()
        self._ids = set()


def _seen(hashes: set[int], text: str) -> bool:
    key = hash(text)
    if key in hashes:
        return True
    hashes.add(key)
    return False
