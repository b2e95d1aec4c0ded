"""Review a bundle: a sheet out, the decisions in, and a child version in which they are carried out.

    write_sheet(bundle, path)         CSV, for a spreadsheet
    write_page(bundle, path)          one HTML page that needs nothing else, and saves the same CSV
    read_sheet(path, bundle)          the decisions, checked against the bundle
    write_reviewed(path, bundle, ...) the child version

In the child the reviewer is one of the header's generators, with the digest of the sheet and the counts of decisions.
An accepted record names the reviewer in ``accepted_by``, an edited one in ``edited_by``; both keep what generated them.
Rejected texts, and the texts that were edited away, go to the rejected completions with reason and reviewer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from pydantic import JsonValue, ValidationError

from abs_core.descriptions import Description, Rejection
from abs_core.errors import BundleError, UsageError
from abs_core.files import atomic_write, sha256_file
from abs_core.text import printable
from abs_descriptions.bundles.codec import validation_message
from abs_descriptions.bundles.exchange import ExternalFormatError, read_external_text
from abs_descriptions.bundles.format import Generator, text_problem
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.references import quoted
from abs_descriptions.bundles.review_file import ReviewRow, parse_review_file, row_id, serialize_review_file
from abs_descriptions.bundles.review_page import render_review_page
from abs_descriptions.bundles.writer import write_bundle

__all__ = ["Review", "read_review_file", "write_page", "write_review_file", "write_reviewed"]


_CORRECT = "Correct the sheet and save it as CSV UTF-8; to keep a sentence leave its row as it was written"


_NAME_ITS_OWN = "Read it back on the bundle and version that it is of"


class _OtherBundleError(ExternalFormatError):
    """The sheet is in order, and of another bundle or version."""


@dataclass(frozen=True)
class Review:
    """The decisions of one sheet on one bundle.

    ``rows`` are those with a decision, by row id; ``undecided`` counts the others.
    """

    sheet_digest: str
    rows: Mapping[str, ReviewRow]
    undecided: int

    def count(self, decision: str) -> int:
        """How many rows have this decision."""
        return sum(row.decision == decision for row in self.rows.values())


def write_review_file(bundle: Bundle, path: Path) -> None:
    """Write the sheet of a bundle as CSV.

    Raises:
        BundleError, StorageError: the bundle is no longer the validated one; a file cannot be read or written.
    """
    names = bundle.header.label_set.names
    with atomic_write(path) as stream:
        for block in serialize_review_file(bundle.reference, names, bundle.records()):
            stream.write(block)


def write_page(bundle: Bundle, path: Path) -> None:
    """Write the sheet of a bundle as a page; errors as ``write_sheet``."""
    with atomic_write(path) as stream:
        for block in render_review_page(bundle.reference, bundle.header, bundle.records()):
            stream.write(block.encode())


def read_review_file(path: Path, bundle: Bundle) -> Review:
    """Read a sheet back.

    Raises:
        StorageError: a file cannot be read.
        BundleError: no sheet, one of another bundle, an unknown decision, a row that is missing, there twice, unknown
            or no longer with its text, or a new text that cannot be one; names file and line.
    """
    try:
        rows = _rows_by_id(path, bundle.reference)
        digest = sha256_file(path)
        decided: dict[str, ReviewRow] = {}
        missing: list[str] = []
        total = len(rows)
        for class_id, group in groupby(bundle.records(), key=attrgetter("class_id")):
            missing += _take_class(class_id, list(group), rows, decided)
        if rows:
            stranger = min(rows.values(), key=attrgetter("line"))
            raise ExternalFormatError(f"the bundle has no row {quoted(stranger.row)}", stranger.line)
        if missing:
            raise ExternalFormatError(
                f"{len(missing)} of {bundle.header.counts.records} rows are missing, the first is {missing[0]}"
            )
    except ExternalFormatError as fault:
        where = printable(str(path)) + ("" if fault.line is None else f", line {fault.line}")
        raise BundleError(
            f"{where}: {fault.message}",
            remedy=_NAME_ITS_OWN if isinstance(fault, _OtherBundleError) else _CORRECT,
        ) from None
    return Review(digest, decided, total - len(decided))


def write_reviewed(
    path: Path, bundle: Bundle, review: Review, *, reviewer: str, name: str, version: str, created: str
) -> Bundle:
    """Write the child of ``bundle`` in which the decisions of ``review`` are carried out.

    Scores are of the old text, so an edited record has none.

    Args:
        reviewer: who decided, 1 to 1,000 characters.
        created: UTC, ``2025-01-31T12:00:00Z``.

    Raises:
        UsageError: a reviewer's name that the header cannot hold.
        BundleError, StorageError: the bundle is no longer the validated one; a file cannot be read or written.
    """
    header = bundle.header
    generator = _reviewer(reviewer, review, {entry.id for entry in header.generators})
    kept = {record.class_id for record in _reviewed(bundle, review, generator.id)}
    return write_bundle(
        path,
        name=name,
        version=version,
        created=created,
        label_set=header.label_set,
        generators=[*header.generators, generator],
        license=header.license,
        records=_reviewed(bundle, review, generator.id),
        rejected=_rejected(bundle, review, generator.id),
        parents=[bundle.reference],
        complete=header.complete and len(kept) == len(header.label_set.classes),
    )


def _rows_by_id(path: Path, reference: str) -> dict[str, ReviewRow]:
    rows: dict[str, ReviewRow] = {}
    for row in parse_review_file(read_external_text(path)):
        if row.bundle != reference:
            raise _OtherBundleError(f"the sheet is of {quoted(row.bundle, 120)}, not of {reference}", row.line)
        if row.row in rows:
            raise ExternalFormatError(
                f"the row {quoted(row.row)} stands already on line {rows[row.row].line}", row.line
            )
        rows[row.row] = row
    return rows


def _take_class(
    class_id: str, records: list[Description], rows: dict[str, ReviewRow], decided: dict[str, ReviewRow]
) -> Iterator[str]:
    """Take the rows of one class from ``rows``, those with a decision to ``decided``; yields what has no row."""
    texts: Counter[str] = Counter()
    edited: list[ReviewRow] = []
    for record in records:
        ident = row_id(record)
        row = rows.pop(ident, None)
        if row is None:
            yield f"{ident}, {quoted(record.text)} of {quoted(class_id)}"
            continue
        if row.text.strip() != record.text:
            raise ExternalFormatError(
                f"the text of row {quoted(ident)} is {quoted(row.text)}, in the bundle it is {quoted(record.text)}; "
                "write changes to new_text",
                row.line,
            )
        if row.decision:
            decided[ident] = row
        if row.decision == "edit":
            _check_new_text(row)
            edited.append(row)
        if row.decision != "reject":
            texts[row.new_text or record.text] += 1
    for row in edited:
        if texts[row.new_text] > 1:
            raise ExternalFormatError(f"{quoted(class_id)} has the text {quoted(row.new_text)} already", row.line)


def _check_new_text(row: ReviewRow) -> None:
    if row.new_text == row.text.strip():
        raise ExternalFormatError("the decision is edit and new_text is the old text", row.line)
    fault = text_problem(row.new_text)
    if fault is not None:
        raise ExternalFormatError(f"the new_text {fault}", row.line)


def _reviewer(name: str, review: Review, taken: set[str]) -> Generator:
    ident, number = "review", 1
    while ident in taken:
        number += 1
        ident = f"review-{number}"
    parameters: dict[str, JsonValue] = {
        "accepted": review.count("accept"),
        "edited": review.count("edit"),
        "rejected": review.count("reject"),
        "undecided": review.undecided,
        "sheet_digest": review.sheet_digest,
    }
    try:
        return Generator(id=ident, backend="review", model=name, parameters=parameters)
    except ValidationError as error:
        fault = validation_message(error).partition(": ")[2]
        raise UsageError(f"the reviewer's name {quoted(name)} {fault}", remedy="Give the name in one line") from None


def _reviewed(bundle: Bundle, review: Review, by: str) -> Iterator[Description]:
    for record in bundle.records():
        row = review.rows.get(row_id(record))
        if row is None:
            yield record
        elif row.decision == "accept":
            yield replace(record, provenance=replace(record.provenance, accepted_by=by))
        elif row.decision == "edit":
            # An earlier acceptance was of the earlier text.
            source = replace(record.provenance, edited_by=by, accepted_by=None)
            yield replace(record, text=row.new_text, scores=None, provenance=source)


def _rejected(bundle: Bundle, review: Review, by: str) -> Iterator[Rejection]:
    if rejected_path(bundle.path).exists():
        yield from iter_rejected(bundle.path, bundle.header)
    for record in bundle.records():
        row = review.rows.get(row_id(record))
        if row is not None and row.decision in ("reject", "edit"):
            reason = "review" if row.decision == "reject" else "edited"
            yield Rejection(record.class_id, record.text, reason, record.provenance, row.reason or None, by)
