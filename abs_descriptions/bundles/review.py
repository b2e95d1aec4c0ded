"""Review a bundle: a review file out, the decisions in, and a child version in which they are carried out.

    write_review(bundle, folder)                the review file for a spreadsheet, and the same as an HTML page
    read_review_file(path, bundle)              the decisions, checked against the bundle
    add_reviewed(repository, bundle, path, ...) the child version in a store

In the child the reviewer is one of the header's generators, with the digest of the review file and the counts of
decisions. An accepted record names the reviewer in ``accepted_by``, an edited one in ``edited_by``; both keep what
generated them. Rejected texts, and the texts that were edited away, go to the rejected completions with reason and
reviewer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from pydantic import JsonValue, ValidationError

from abs_core.bundle_scores import BundleScores
from abs_core.descriptions import Description, Rejection
from abs_core.errors import AbsError, BundleError, UsageError
from abs_core.files import atomic_write, sha256_file
from abs_core.text import printable, quoted, validation_message
from abs_core.text_files import ExternalFormatError, read_external_text
from abs_descriptions.bundles.format import Generator, text_problem
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review_file import (
    ReviewRow,
    parse_review_file,
    row_id,
    serialize_review_file,
)
from abs_descriptions.bundles.review_page.rendering import render_review_page
from abs_descriptions.bundles.versions import add_version, child_version, timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = [
    "Review",
    "add_reviewed",
    "find_scores",
    "read_review_file",
    "write_page",
    "write_review",
    "write_review_file",
    "write_reviewed",
]

_logger = logging.getLogger(__name__)

# More rows than a browser handles well; a spreadsheet takes a million.
_MAX_PAGE_ROWS = 50_000
_CORRECT = "Correct the review file and save it as CSV UTF-8; to keep a sentence leave its row as it was written"
_NAME_ITS_OWN = "Read it with the bundle and version that it is of"


class _OtherBundleError(ExternalFormatError):
    """The review file is in order, and of another bundle or version."""


@dataclass(frozen=True)
class Review:
    """The decisions of one review file on one bundle.

    ``rows`` are those with a decision, by row id; ``undecided`` counts the others.
    """

    file_digest: str
    rows: Mapping[str, ReviewRow]
    undecided: int

    def count(self, decision: str) -> int:
        """How many rows have this decision."""
        return sum(row.decision == decision for row in self.rows.values())


def write_review_file(bundle: Bundle, path: Path) -> None:
    """Write the review file of a bundle, a CSV.

    Raises:
        BundleError, StorageError: the bundle is no longer the validated one; a file cannot be read or written.
    """
    names = bundle.header.label_set.names
    with atomic_write(path) as stream:
        for block in serialize_review_file(bundle.reference, names, bundle.records()):
            stream.write(block)


def write_page(bundle: Bundle, path: Path, scores: BundleScores | None = None) -> None:
    """Write the same as a page for a browser.

    Args:
        bundle: to review.
        path: of the page.
        scores: of exactly this bundle, shown beside its sentences.

    Raises:
        UsageError: the scores are of another bundle.
        BundleError, StorageError: as ``write_review_file``.
    """
    if scores is not None and scores.bundle != bundle.reference:
        raise UsageError(
            f"the scores must be of {bundle.reference}, got those of {quoted(scores.bundle, 120)}",
            remedy="Score this version with `abs bundle score`",
        )
    with atomic_write(path) as stream:
        for block in render_review_page(bundle.reference, bundle.header, bundle.records(), scores):
            stream.write(block.encode())


def find_scores(bundle: Bundle, folder: Path) -> BundleScores | None:
    """What ``abs bundle score`` wrote last for a bundle; None without it. What cannot be shown is logged.

    Args:
        bundle: whose scores.
        folder: ``Home.scores``.
    """
    path = BundleScores.path_in(folder, bundle.reference)
    if not path.exists():
        return None
    try:
        scores = BundleScores.read(path)
    except AbsError as error:
        _logger.warning("the page has no scores: %s", error)
        return None
    if scores.bundle != bundle.reference:
        _logger.warning("the page has no scores: those in %s are of %s", path, quoted(scores.bundle, 120))
        return None
    return scores


def write_review(bundle: Bundle, folder: Path, scores: BundleScores | None = None) -> list[Path]:
    """Write the review file of a bundle to a folder, and up to 50,000 descriptions also its page.

    Args:
        bundle: to review.
        folder: to write to.
        scores: of exactly this bundle, shown on the page.

    Returns:
        The paths of what was written.

    Raises:
        UsageError: the scores are of another bundle, or the folder has a review file of that name with decisions in
            it, or one that cannot be read.
        BundleError, StorageError: as ``write_review_file``.
    """
    stem = f"{bundle.header.name}-{bundle.header.version}-review"
    csv_path, page_path = folder / f"{stem}.csv", folder / f"{stem}.html"
    _refuse_decided(csv_path, bundle)
    if bundle.header.counts.records <= _MAX_PAGE_ROWS:
        write_page(bundle, page_path, scores)
        write_review_file(bundle, csv_path)
        return [csv_path, page_path]
    write_review_file(bundle, csv_path)
    _logger.info("%d descriptions are too many for a page; there is only the CSV", bundle.header.counts.records)
    return [csv_path]


def _refuse_decided(path: Path, bundle: Bundle) -> None:
    """Spreadsheets save over the file that they opened, so one that is there may be hours of somebody's work."""
    if not path.exists():
        return
    try:
        decided = len(read_review_file(path, bundle).rows)
    except BundleError:
        raise UsageError(
            f"{str(path)!r} exists and is not a review file of {bundle.reference}",
            remedy="Name another folder, or move it",
        ) from None
    if decided:
        raise UsageError(
            f"{str(path)!r} exists with {decided} decisions",
            remedy="Read it with --read, or name another folder with --out",
        )


def read_review_file(path: Path, bundle: Bundle) -> Review:
    """Read a review file back.

    Raises:
        StorageError: a file cannot be read.
        BundleError: no review file, one of another bundle, an unknown decision, a row that is missing, repeated,
            unknown or no longer with its text, or a new text that cannot be one; names file and line.
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
            unknown = min(rows.values(), key=attrgetter("line"))
            raise ExternalFormatError(f"the bundle has no row {quoted(unknown.row)}", unknown.line)
        if missing:
            raise ExternalFormatError(
                f"{len(missing)} of {bundle.header.counts.records} rows are missing, the first is {missing[0]}"
            )
    except ExternalFormatError as error:
        where = printable(str(path)) + ("" if error.line is None else f", line {error.line}")
        raise BundleError(
            f"{where}: {error.message}",
            remedy=_NAME_ITS_OWN if isinstance(error, _OtherBundleError) else _CORRECT,
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


def add_reviewed(
    repository: Repository,
    bundle: Bundle,
    path: Path,
    *,
    reviewer: str,
    name: str | None = None,
    version: str | None = None,
) -> str:
    """Carry out the decisions of a review file in a new version. What was decided is logged.

    Args:
        repository: a local store.
        bundle: that was reviewed.
        path: the review file that came back.
        reviewer: who decided, 1 to 1,000 characters.
        name: of the new bundle; None: that of the reviewed one.
        version: of the new bundle, as ``child_version`` takes it.

    Returns:
        The pinned reference of the new version; of the bundle itself if nothing was decided.

    Raises:
        as ``read_review_file``, ``write_reviewed`` and ``child_version``; StorageError: the store cannot be written.
    """
    review = read_review_file(path, bundle)
    if not review.rows:
        _logger.info("the review file holds no decision, so there is no new version")
        return bundle.reference
    chosen = bundle.header.name if name is None else name
    number = child_version(repository, chosen, [bundle.header], version)
    others = _other_reviews(repository, bundle)

    def write(child: Path) -> Bundle:
        return write_reviewed(
            child, bundle, review, reviewer=reviewer, name=chosen, version=number, created=timestamp()
        )

    manifest = add_version(repository, write)
    counts = [review.count(decision) for decision in ("accept", "edit", "reject")]
    _logger.info("%d accepted, %d edited, %d rejected, %d left as they were", *counts, review.undecided)
    described = {record.class_id for record in repository.read(manifest).records()}
    for class_id in dict.fromkeys(record.class_id for record in bundle.records()):
        if class_id not in described:
            _logger.warning("the class %s has no description left, so the new version is not complete", class_id)
    for other in others:
        _logger.warning(
            "%s@%s was made of the same version, and this review does not have its changes: "
            "`abs bundle merge %s@%s %s@%s` joins both",
            *(other.name, other.version) * 2,
            *(manifest.name, manifest.version),
        )
    return str(manifest)


def _other_reviews(repository: Repository, bundle: Bundle) -> list[Manifest]:
    """What the store has that was made of this version alone, such as the review of a colleague."""
    manifest = Manifest.of(bundle.header, bundle.digest, bundle.path.stat().st_size)
    children = list(repository.children(manifest))
    # What was merged already is in the merged bundle, which has its pieces as parents.
    return [child for child in children if not any(True for _ in repository.children(child))]


def _rows_by_id(path: Path, reference: str) -> dict[str, ReviewRow]:
    rows: dict[str, ReviewRow] = {}
    for row in parse_review_file(read_external_text(path)):
        if row.bundle != reference:
            raise _OtherBundleError(f"the review file is of {quoted(row.bundle, 120)}, not of {reference}", row.line)
        if row.row in rows:
            raise ExternalFormatError(f"the row {quoted(row.row)} is already on line {rows[row.row].line}", row.line)
        rows[row.row] = row
    return rows


def _take_class(
    class_id: str, records: list[Description], rows: dict[str, ReviewRow], decided: dict[str, ReviewRow]
) -> Iterator[str]:
    """Take the rows of one class from ``rows``, those with a decision to ``decided``; yields what has no row."""
    texts: Counter[str] = Counter()
    edited: list[ReviewRow] = []
    for record in records:
        key = row_id(record)
        row = rows.pop(key, None)
        if row is None:
            yield f"{key}, {quoted(record.text)} of {quoted(class_id)}"
            continue
        if row.text.strip() != record.text:
            raise ExternalFormatError(
                f"the text of row {quoted(key)} is {quoted(row.text)}, in the bundle it is {quoted(record.text)}; "
                "write changes to new_text",
                row.line,
            )
        if row.decision:
            decided[key] = row
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
    problem = text_problem(row.new_text)
    if problem is not None:
        raise ExternalFormatError(f"the new_text {problem}", row.line)


def _reviewer(name: str, review: Review, existing: set[str]) -> Generator:
    identifier, number = "review", 1
    while identifier in existing:
        number += 1
        identifier = f"review-{number}"
    parameters: dict[str, JsonValue] = {
        "accepted": review.count("accept"),
        "edited": review.count("edit"),
        "rejected": review.count("reject"),
        "undecided": review.undecided,
        "sheet_digest": review.file_digest,
    }
    try:
        return Generator(id=identifier, backend="review", model=name, parameters=parameters)
    except ValidationError as error:
        problem = validation_message(error).partition(": ")[2]
        raise UsageError(f"the reviewer's name {quoted(name)} {problem}", remedy="Give the name in one line") from None


def _reviewed(bundle: Bundle, review: Review, reviewer: str) -> Iterator[Description]:
    for record in bundle.records():
        row = review.rows.get(row_id(record))
        if row is None:
            yield record
        elif row.decision == "accept":
            yield replace(record, provenance=replace(record.provenance, accepted_by=reviewer))
        elif row.decision == "edit":
            # An earlier acceptance was of the earlier text.
            source = replace(record.provenance, edited_by=reviewer, accepted_by=None)
            yield replace(record, text=row.new_text, scores=None, provenance=source)


def _rejected(bundle: Bundle, review: Review, reviewer: str) -> Iterator[Rejection]:
    if rejected_path(bundle.path).exists():
        yield from iter_rejected(bundle.path, bundle.header)
    for record in bundle.records():
        row = review.rows.get(row_id(record))
        if row is not None and row.decision in ("reject", "edit"):
            reason = "review" if row.decision == "reject" else "edited"
            yield Rejection(record.class_id, record.text, reason, record.provenance, row.reason or None, reviewer)
