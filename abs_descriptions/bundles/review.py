"""Review a bundle: a review file out, the decisions in, and a child version in which they are carried out.

    write_review(bundle, folder)                the review file for a spreadsheet, and the same as an HTML page
    read_review_file(path, bundle)              the decisions, checked against the bundle
    add_reviewed(repository, bundle, files)     the child version in a store, of one review or of several

A review of an older version goes onto the newest one that was made of it: its decisions are merged with what was
changed meanwhile (``merge``).

In the child the reviewer is one of the header's generators, with the digest of the review file and the counts of
decisions. An accepted record names the reviewer in ``accepted_by``, an edited one in ``edited_by``; both keep what
generated them. Rejected texts, and the texts that were edited away, go to the rejected completions with reason and
reviewer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from pydantic import JsonValue

from abs_core.bundle_scores import BundleScores
from abs_core.descriptions import Description, Provenance, Rejection
from abs_core.errors import AbsError, BundleError, UsageError
from abs_core.files import atomic_write, sha256_file
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import printable, quoted
from abs_core.text_files import ExternalFormatError, read_external_text
from abs_descriptions.bundles.changes import (
    Change,
    add_changes,
    choose_target,
    find_changed,
    warn_of_empty_classes,
    warn_of_rejected_texts,
)
from abs_descriptions.bundles.format import text_problem
from abs_descriptions.bundles.manifest import Manifest
from abs_descriptions.bundles.merge import REFUSE_CONFLICTS, Settling
from abs_descriptions.bundles.reader import Bundle, iter_rejected, rejected_path
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.review_file import (
    ReviewRow,
    find_class,
    parse_review_file,
    row_id,
    serialize_review_file,
)
from abs_descriptions.bundles.review_page.rendering import render_review_page
from abs_descriptions.bundles.reviewers import reviewer_generator
from abs_descriptions.bundles.spreadsheets import is_date, retyping
from abs_descriptions.bundles.versions import timestamp
from abs_descriptions.bundles.writer import write_bundle

__all__ = [
    "Review",
    "ReviewFile",
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

    Args:
        file_digest: of the file.
        rows: those with a decision on a sentence of the bundle, by row id.
        undecided: how many sentences have none.
        added: class id -> the rows of new sentences.
        remarks: what was recognized although a spreadsheet had changed it, and new sentences that are there already.
    """

    file_digest: str
    rows: Mapping[str, ReviewRow]
    undecided: int
    added: Mapping[str, Sequence[ReviewRow]] = field(default_factory=dict)
    remarks: Sequence[Remark] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was decided."""
        return not (self.rows or self.added)

    def count(self, decision: str) -> int:
        """How many rows have this decision."""
        added = sum(map(len, self.added.values())) if decision == "add" else 0
        return added + sum(row.decision == decision for row in self.rows.values())


@dataclass(frozen=True)
class ReviewFile:
    """A review file that came back, and who decided, 1 to 1,000 characters."""

    path: Path
    reviewer: str


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
        review = read_review_file(path, bundle)
        decided = len(review.rows) + review.count("add")
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

    What a spreadsheet changed in the texts of the bundle is recognized by the row id and counted in ``remarks``, where
    it is certain: quotes, dashes, spaces, numbers. What is not certain, such as a date, is refused.

    Raises:
        StorageError: a file cannot be read.
        BundleError: no review file, one of another bundle, an unknown decision, a row that is missing, repeated,
            unknown or no longer with its text, or a new text that cannot be one; names file and line.
    """
    with _named_errors(path):
        rows, added = _rows_by_id(path, bundle)
        reading = _Reading(bundle, rows, added)
        return Review(
            sha256_file(path), reading.decided, reading.total - len(reading.decided), reading.added, reading.remarks()
        )


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ExternalFormatError as error:
        where = printable(str(path)) + ("" if error.line is None else f", line {error.line}")
        raise BundleError(
            f"{where}: {error.message}",
            remedy=_NAME_ITS_OWN if isinstance(error, _OtherBundleError) else _CORRECT,
        ) from None


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
    generator = reviewer_generator(reviewer, [entry.id for entry in header.generators], _parameters(review))
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
    files: Sequence[ReviewFile],
    *,
    onto: str | None = None,
    fork: bool = False,
    name: str | None = None,
    version: str | None = None,
    settling: Settling = REFUSE_CONFLICTS,
) -> str:
    """Carry out the decisions of review files in one new version. What was decided is logged.

    Args:
        repository: a local store.
        bundle: the version that was reviewed, or one that was made of it. If the store has a newer one made of it, the
            decisions go onto the newest.
        files: of one version.
        onto: the version that the decisions go onto instead.
        fork: whether they go onto the reviewed version, whatever was made of it.
        name: of the new bundle; None: that of the version that the decisions go onto.
        version: of the new bundle, as ``child_version`` takes it.
        settling: how conflicts are decided, among the reviews and with what was changed meanwhile.

    Returns:
        The pinned reference of the new version; if nothing was decided that it does not have, of the one that the
        decisions would have gone onto.

    Raises:
        UsageError: files of two versions, or a version that was not made of the reviewed one.
        MergeConflictError: conflicts that are left.
        BundleError: as ``read_review_file``; the reviewed version is not in the store.
        as ``write_reviewed``; StorageError: the store cannot be written.
    """
    reviewed = _reviewed_version(repository, bundle, files)
    target = choose_target(repository, bundle, reviewed, onto=onto, fork=fork)
    reviews = [(file, read_review_file(file.path, reviewed)) for file in files]
    for remark in (remark for _, review in reviews for remark in review.remarks):
        _logger.warning("%s", remark)
    decided = [(file, review) for file, review in reviews if not review.is_empty]
    if not decided:
        holds = "review file holds" if len(files) == 1 else "review files hold"
        _logger.info("the %s no decision, so there is no new version", holds)
        return target.reference
    others = _other_reviews(repository, reviewed) if target.reference == reviewed.reference else []
    changes = [_change(reviewed, file, review) for file, review in decided]
    manifest = add_changes(repository, reviewed, target, changes, name=name, version=version, settling=settling)
    if manifest is None:
        _logger.info("%s has these decisions already, so there is no new version", target.reference)
        return target.reference
    for file, review in decided:
        _log_counts(review, "" if len(decided) == 1 else f"{file.reviewer}: ")
    warn_of_rejected_texts(reviewed, [record for _, review in decided for record in _new_records(reviewed, review)])
    warn_of_empty_classes(reviewed, repository.read(manifest))
    _warn_of_others(manifest, others)
    return str(manifest)


def _new_records(bundle: Bundle, review: Review) -> Iterator[Description]:
    """The records whose texts the bundle lacks, as if a reviewer without an id had made them."""
    return (
        record
        for record in _reviewed(bundle, review, "")
        if "" in (record.provenance.edited_by, record.provenance.generator)
    )


def _log_counts(review: Review, who: str) -> None:
    counts = [review.count(decision) for decision in ("accept", "edit", "reject")]
    added = f", {review.count('add')} added" if review.added else ""
    _logger.info("%s%d accepted, %d edited, %d rejected, %d left as they were%s", who, *counts, review.undecided, added)


def _change(reviewed: Bundle, file: ReviewFile, review: Review) -> Change:
    def write(path: Path, /, *, name: str, version: str) -> Bundle:
        return write_reviewed(
            path, reviewed, review, reviewer=file.reviewer, name=name, version=version, created=timestamp()
        )

    return Change(f"{file.reviewer}'s {file.path.name}", review.file_digest, write)


def _warn_of_others(manifest: Manifest, others: Sequence[Manifest]) -> None:
    for other in others:
        _logger.warning(
            "%s@%s was made of the same version, and this review does not have its changes: "
            "`abs bundle merge %s@%s %s@%s` joins both",
            *(other.name, other.version) * 2,
            *(manifest.name, manifest.version),
        )


def _reviewed_version(repository: Repository, bundle: Bundle, files: Sequence[ReviewFile]) -> Bundle:
    """The bundle that review files are of."""
    if not files:
        raise UsageError("no review file is given", remedy="Name at least one")
    stated: dict[str, Path] = {}
    for file in files:
        with _named_errors(file.path):
            first = next(parse_review_file(read_external_text(file.path)), None)
        stated.setdefault(bundle.reference if first is None else first.bundle, file.path)
    if len(stated) > 1:
        raise UsageError(
            f"the review files are of {len(stated)} versions: {', '.join(quoted(text, 120) for text in stated)}",
            remedy="Read those of each version by a command of its own, the older one first",
        )
    reference, path = next(iter(stated.items()))
    return find_changed(repository, bundle, reference, f"{printable(str(path))}: the review file")


def _other_reviews(repository: Repository, bundle: Bundle) -> list[Manifest]:
    """What the store has that was made of this version alone, such as the review of a colleague."""
    manifest = Manifest.of(bundle.header, bundle.digest, bundle.path.stat().st_size)
    children = list(repository.children(manifest))
    # What was merged already is in the merged bundle, which has its pieces as parents.
    return [child for child in children if not any(True for _ in repository.children(child))]


def _rows_by_id(path: Path, bundle: Bundle) -> tuple[dict[str, ReviewRow], list[ReviewRow]]:
    """The rows of sentences by their ids, and those of new sentences."""
    rows: dict[str, ReviewRow] = {}
    added: list[ReviewRow] = []
    for row in parse_review_file(read_external_text(path)):
        if row.bundle != bundle.reference:
            raise _OtherBundleError(
                f"the review file is of {quoted(row.bundle, 120)}, not of {bundle.reference}", row.line
            )
        if row.decision == "add":
            _check_new_text(row)
            added.append(row)
            continue
        if row.row in rows:
            raise ExternalFormatError(f"the row {quoted(row.row)} is already on line {rows[row.row].line}", row.line)
        rows[row.row] = row
    return rows, added


class _Reading:
    """The rows of a file, checked against the records of a bundle."""

    def __init__(self, bundle: Bundle, rows: dict[str, ReviewRow], added: Sequence[ReviewRow]) -> None:
        self.decided: dict[str, ReviewRow] = {}
        self.added: dict[str, list[ReviewRow]] = {}
        self.total = len(rows)
        self._bundle = bundle
        self._rows = rows
        self._missing: list[str] = []
        self._remarks = RemarkCounter()
        waiting: dict[str, list[ReviewRow]] = {}
        for row in added:
            waiting.setdefault(find_class(row.class_label, row.line, bundle.header.label_set), []).append(row)
        for class_id, group in groupby(bundle.records(), key=attrgetter("class_id")):
            self._take_class(class_id, list(group), waiting.pop(class_id, []))
        for class_id, group_added in waiting.items():
            self._take_class(class_id, [], group_added)
        self._refuse_left_over()

    def remarks(self) -> Sequence[Remark]:
        """What was recognized although a spreadsheet had changed it, and what is there already."""
        return self._remarks.remarks

    def _refuse_left_over(self) -> None:
        if self._rows:
            unknown = min(self._rows.values(), key=attrgetter("line"))
            text = f", {quoted(unknown.text)}" if unknown.text.strip() else ""
            raise ExternalFormatError(
                f"the bundle has no row {quoted(unknown.row)}{text}; a new sentence has the decision add and no row",
                unknown.line,
            )
        if self._missing:
            raise ExternalFormatError(
                f"{len(self._missing)} of {self._bundle.header.counts.records} rows are missing, the first is "
                f"{self._missing[0]}"
            )

    def _take_class(self, class_id: str, records: Sequence[Description], added: Sequence[ReviewRow]) -> None:
        """Take the rows of one class, those with a decision to ``decided``."""
        texts: Counter[str] = Counter()
        edited: list[ReviewRow] = []
        held = {record.text for record in records}
        for record in records:
            key = row_id(record)
            row = self._rows.pop(key, None)
            if row is None:
                self._missing.append(f"{key}, {quoted(record.text)} of {quoted(class_id)}")
                continue
            self._check_text(row, record.text, held)
            if row.decision:
                self.decided[key] = row
            if row.decision == "edit":
                if row.new_text == record.text:
                    raise ExternalFormatError("the decision is edit and new_text is the old text", row.line)
                _check_new_text(row)
                edited.append(row)
            if row.decision != "reject":
                texts[row.new_text or record.text] += 1
        for row in edited:
            if texts[row.new_text] > 1:
                raise ExternalFormatError(f"{quoted(class_id)} has the text {quoted(row.new_text)} already", row.line)
        for row in added:
            if texts[row.new_text]:
                self._remarks.add("added although it is there already: the sentence", row.new_text)
                continue
            texts[row.new_text] += 1
            self.added.setdefault(class_id, []).append(row)

    def _check_text(self, row: ReviewRow, text: str, held: AbstractSet[str]) -> None:
        """Refuse a row whose text is no longer the one that its id was made of."""
        if row.text == text:
            return
        # Where the class has that text too, the rows may have been sorted by some columns only.
        how = retyping(row.text, text) if row.text not in held else None
        if how is not None:
            if row.text.strip() != text:
                self._remarks.add(f"recognized {how}: the text of line", str(row.line))
            return
        told = " (a spreadsheet may have made a date of it)" if is_date(row.text) else ""
        raise ExternalFormatError(
            f"the text of row {quoted(row.row)} is {quoted(row.text)}{told}, in the bundle it is {quoted(text)}; "
            "write changes to new_text",
            row.line,
        )


def _check_new_text(row: ReviewRow) -> None:
    problem = text_problem(row.new_text)
    if problem is not None:
        raise ExternalFormatError(f"the new_text {problem}", row.line)


def _parameters(review: Review) -> dict[str, JsonValue]:
    parameters: dict[str, JsonValue] = {
        "accepted": review.count("accept"),
        "edited": review.count("edit"),
        "rejected": review.count("reject"),
        "undecided": review.undecided,
        "sheet_digest": review.file_digest,
    }
    return parameters | ({"added": review.count("add")} if review.added else {})


def _reviewed(bundle: Bundle, review: Review, reviewer: str) -> Iterator[Description]:
    waiting = dict(review.added)
    sample = 0
    for class_id, group in groupby(bundle.records(), key=attrgetter("class_id")):
        for record in group:
            decided = _decided(record, review.rows.get(row_id(record)), reviewer)
            if decided is not None:
                yield decided
        for row in waiting.pop(class_id, ()):
            yield _added(row, class_id, reviewer, sample)
            sample += 1
    # Classes that had no description; the writer puts them into their place.
    for class_id, rows in waiting.items():
        for row in rows:
            yield _added(row, class_id, reviewer, sample)
            sample += 1


def _added(row: ReviewRow, class_id: str, reviewer: str, sample: int) -> Description:
    return Description(row.new_text, row.kind, class_id=class_id, provenance=Provenance(reviewer, sample))


def _decided(record: Description, row: ReviewRow | None, reviewer: str) -> Description | None:
    if row is None:
        return record
    if row.decision == "reject":
        return None
    if row.decision == "accept":
        return replace(record, provenance=replace(record.provenance, accepted_by=reviewer))
    # An earlier acceptance was of the earlier text.
    source = replace(record.provenance, edited_by=reviewer, accepted_by=None)
    return replace(record, text=row.new_text, scores=None, provenance=source)


def _rejected(bundle: Bundle, review: Review, reviewer: str) -> Iterator[Rejection]:
    if rejected_path(bundle.path).exists():
        yield from iter_rejected(bundle.path, bundle.header)
    for record in bundle.records():
        row = review.rows.get(row_id(record))
        if row is not None and row.decision in ("reject", "edit"):
            reason = "review" if row.decision == "reject" else "edited"
            yield Rejection(record.class_id, record.text, reason, record.provenance, row.reason or None, reviewer)
