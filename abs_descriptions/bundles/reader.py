"""Read bundles as a stream: every rule of the format is checked, memory stays bounded by one class.

What was read is known to be whole only when the iteration has ended: counts and digests come last.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast
from unicodedata import normalize

import jsonlines
from pydantic import ValidationError

from abs_core.canonical import canonical_json
from abs_core.descriptions import Description, LabelSpace, Provenance, Rejection
from abs_core.errors import BundleError
from abs_core.files import storage_errors
from abs_core.text import printable, quoted, validation_message
from abs_core.text_files import foreign_content
from abs_descriptions.bundles.codec import (
    CANONICAL,
    FETCH,
    MIGRATIONS,
    LineError,
    Migration,
    RecordRules,
    check_canonical,
    parse_header,
    parse_json,
    serialize_header,
)
from abs_descriptions.bundles.format import (
    MAX_HEADER_BYTES,
    MAX_LINE_BYTES,
    MAX_REJECTED_TEXT,
    MAX_TEXT,
    SURROGATE,
    BundleHeader,
    HeaderSummary,
    RejectionModel,
)

__all__ = [
    "Bundle",
    "BundlePass",
    "LineReader",
    "iter_records",
    "iter_rejected",
    "load_descriptions",
    "open_bundle",
    "open_pass",
    "parse_summary",
    "read_bundle",
    "read_header",
    "read_summary",
    "rejected_path",
    "rejection_value",
]

_CHUNK = 256 * 1024


class LineReader:
    """One pass over a file. ``number`` is the line that was read last, ``digest`` covers what was read so far."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self.path = path
        self.number = 0
        self._stream = stream
        self._whole = hashlib.sha256()
        self._body = hashlib.sha256()

    @property
    def digest(self) -> str:
        """``sha256:`` and the digest of all bytes read so far."""
        return "sha256:" + self._whole.hexdigest()

    @property
    def body_digest(self) -> str:
        """``sha256:`` and the digest of the bytes that ``lines`` has read so far."""
        return "sha256:" + self._body.hexdigest()

    def error(self, problem: LineError) -> BundleError:
        """The error that names this file and the line that was read last."""
        return BundleError(f"{printable(str(self.path))}, line {self.number}: {problem.message}", remedy=problem.remedy)

    def first_line(self) -> str:
        """Line 1, without its line feed, of at most ``MAX_HEADER_BYTES``.

        Raises:
            BundleError: an empty or truncated file, a line over the limit, invalid UTF-8.
        """
        line = self._stream.readline(MAX_HEADER_BYTES + 1)
        self.number = 1
        if not line:
            raise self.error(LineError("the file is empty", FETCH))
        if (foreign := foreign_content(line)) is not None:
            raise self.error(_foreign(*foreign))
        if not line.endswith(b"\n"):
            raise self.error(_too_long(MAX_HEADER_BYTES) if len(line) > MAX_HEADER_BYTES else _truncated())
        self._whole.update(line)
        try:
            return self._text(line)[:-1]
        except LineError as error:
            raise self.error(error) from None

    def lines(self) -> Iterator[str]:
        """All further lines, without their line feeds.

        Raises:
            BundleError: a truncated file, a line over ``MAX_LINE_BYTES``, invalid UTF-8.
        """
        tail = b""
        try:
            while chunk := self._stream.read(_CHUNK):
                if self.number == 0 and (foreign := foreign_content(chunk)) is not None:
                    self.number = 1
                    raise _foreign(*foreign)
                self._whole.update(chunk)
                self._body.update(chunk)
                data = tail + chunk
                cut = data.rfind(b"\n") + 1
                tail = data[cut:]
                yield from self._lines_of(data[:cut])
                if len(tail) > MAX_LINE_BYTES:
                    self.number += 1
                    raise _too_long(MAX_LINE_BYTES)
            if tail:
                self.number += 1
                raise _truncated()
        except LineError as error:
            raise self.error(error) from None

    def _lines_of(self, block: bytes) -> Iterator[str]:
        try:
            text = block.decode()
            odd = len(block) > MAX_LINE_BYTES or "\ufeff" in text or "\x1e" in text or "\r" in text
        except UnicodeDecodeError:
            odd = True
        if odd:
            # One by one, so that the lines before the bad one are read and the bad one is counted.
            for line in block.split(b"\n")[:-1]:
                self.number += 1
                yield self._text(line)
            return
        for good in text.split("\n")[:-1]:
            self.number += 1
            yield good

    def _text(self, line: bytes) -> str:
        if len(line) > MAX_LINE_BYTES and self.number > 1:
            raise _too_long(MAX_LINE_BYTES)
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            reason = f"byte 0x{line[error.start]:02x} in column {error.start + 1} is not valid UTF-8"
            raise LineError(reason, "Save the file as UTF-8, or fetch the bundle again") from None
        if text.removesuffix("\n").endswith("\r"):
            raise LineError("the lines end in CR LF, as Git and editors write them on Windows", _LINE_ENDINGS)
        # jsonlines would drop either silently.
        if text[:1] in ("\ufeff", "\x1e"):
            raise LineError("a byte order mark or record separator precedes the JSON object", CANONICAL)
        return text


@contextmanager
def open_bundle(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes.

    Raises:
        StorageError: the file does not exist or cannot be read.
        BundleError: the path is a folder, a pipe or a device.
    """
    with storage_errors(path, "read"):
        # A pipe without a writer would block for ever, a device might never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BundleError(f"{printable(str(path))} is not a file", remedy="Name a bundle's .jsonl file")
        with path.open("rb") as stream:
            yield stream


@contextmanager
def _open_line_reader(path: Path) -> Iterator[LineReader]:
    """Open a file for one pass; errors as ``open_bundle``."""
    with open_bundle(path) as stream:
        yield LineReader(path, stream)


# what keeps Git from changing the bytes of a store
_LINE_ENDINGS = "Put the line `*.jsonl -text` into .gitattributes beside the store, and check the files out again"


def _foreign(what: str, remedy: str) -> LineError:
    if "LFS" in what:
        remedy += "; a store in Git works without LFS too, with the line `*.jsonl -text` in .gitattributes"
    return LineError(f"this is {what}", remedy)


def _too_long(limit: int) -> LineError:
    return LineError(f"longer than the {limit // 1024**2} MiB that a line may have", FETCH)


def _truncated() -> LineError:
    return LineError("the file ends in the middle of this line: it is truncated", FETCH)


def rejected_path(path: Path) -> Path:
    """Where the rejected completions of the bundle at ``path`` lie."""
    stem = path.name.removesuffix(".jsonl")
    return path.with_name(f"{stem}.rejected.jsonl")


def iter_rejected(path: Path, header: BundleHeader) -> Iterator[Rejection]:
    """The rejected completions beside the bundle at ``path``, as a stream; none if there are none.

    Raises:
        StorageError: there should be some and the file cannot be read.
        BundleError: a rule is broken, or count or digest are not the header's; names file and line.
    """
    if header.counts.rejected == 0 and not rejected_path(path).exists():
        return
    rules = RecordRules(header.label_set.ids, [generator.id for generator in header.generators])
    count = 0
    with _open_line_reader(rejected_path(path)) as line_reader:
        try:
            with jsonlines.Reader(line_reader.lines(), loads=cast("Any", lambda line: _read(line, rules))) as reader:
                for rejection in cast("Iterator[Rejection]", reader):
                    count += 1
                    yield rejection
        except LineError as error:
            raise line_reader.error(error) from None
        if (count, line_reader.digest) != (header.counts.rejected, header.rejected_digest):
            raise BundleError(
                f"{printable(str(line_reader.path))} holds {count} rejected completions "
                f"with the digest {line_reader.digest}; "
                f"the bundle's header says {header.counts.rejected} with {header.rejected_digest}",
                remedy="Fetch both files again from one place",
            )


def _check_rejected(path: Path, header: BundleHeader) -> None:
    """Check the whole file of rejected completions beside the bundle at ``path``; errors as ``iter_rejected``."""
    for _ in iter_rejected(path, header):
        pass


def rejection_value(rejection: Rejection) -> dict[str, Any]:
    """The JSON object of a rejected completion, made storable: lone surrogates become U+FFFD, long texts are cut."""
    value: dict[str, Any] = {
        "class": rejection.class_id,
        "provenance": {key: item for key, item in asdict(rejection.provenance).items() if item is not None},
        "reason": rejection.reason,
        "text": _storable(rejection.text, MAX_REJECTED_TEXT),
    }
    if rejection.detail is not None:
        value["detail"] = _storable(rejection.detail, MAX_TEXT)
    if rejection.rejected_by is not None:
        value["rejected_by"] = rejection.rejected_by
    return value


def _storable(text: str, limit: int) -> str:
    # Normalised first: NFC can lengthen a text.
    whole = normalize("NFC", SURROGATE.sub("\ufffd", text))
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def _read(line: str, rules: RecordRules) -> Rejection:
    value = parse_json(line)
    try:
        model = RejectionModel.model_validate_json(line)
    except ValidationError as error:
        raise LineError(validation_message(error), FETCH) from None
    check_canonical(value, line)
    if model.model_dump(mode="json", by_alias=True, exclude_none=True) != value:
        raise LineError("null is not allowed; leave the key out", FETCH)
    source = model.provenance
    provenance = Provenance(**source.model_dump())
    reason = rules.provenance_problem(provenance) or rules.reviewer_problem(model.rejected_by)
    if reason is None and not rules.knows_class(model.class_):
        reason = f"the class {quoted(model.class_)} is not in the label set"
    if reason is not None:
        raise LineError(reason, FETCH)
    return Rejection(model.class_, model.text, model.reason, provenance, model.detail, model.rejected_by)


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

    def label_space(self) -> LabelSpace:
        """The classes with their descriptions, to classify with; raises ``BundleError`` as ``records`` does."""
        return LabelSpace(self.header.label_set, self.descriptions(), self.reference)


def read_header(path: Path) -> BundleHeader:
    """The header of a bundle. Checks line 1 alone: the records may still be truncated or invalid.

    Raises:
        StorageError: the file cannot be read.
        BundleError: the header breaks a rule; names file and line.
    """
    with open_pass(path) as reading:
        return reading.header


def read_summary(path: Path) -> HeaderSummary:
    """The header of a bundle without its classes, for showing many bundles; checks less than ``read_header``.

    Raises:
        StorageError, BundleError: as ``read_header``.
    """
    try:
        with open_bundle(path) as stream:
            return parse_summary(stream.readline(MAX_HEADER_BYTES + 1))
    except BundleError:
        header = read_header(path)  # says what is wrong, or brings the header of an older format up to date
        return parse_summary(serialize_header(header).encode())


def parse_summary(line: bytes) -> HeaderSummary:
    """The header on the first line of a bundle, without its classes.

    Raises:
        BundleError: it is none.
    """
    try:
        return HeaderSummary.model_validate_json(line)
    except ValidationError as error:
        message = validation_message(error)
        raise BundleError(f"the header is invalid: {message}", remedy="Fetch or copy the bundle again") from None


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


def read_bundle(path: Path, *, digest: str | None = None) -> Bundle:
    """Validate a whole bundle, and the rejected completions beside it if they are there.

    Args:
        path: of the bundle's file.
        digest: what the sha256 of the whole file must be, ``sha256:...``; None: not compared.

    Returns:
        The header, the digest, and access to the records.

    Raises:
        StorageError: a file cannot be read.
        BundleError: a rule is broken; names file and line.
    """
    with open_pass(path) as reading:
        for _ in reading.records():
            pass
        reading.finish(digest)
        bundle = Bundle(path, reading.header, reading.line_reader.digest)
    if rejected_path(path).exists():
        _check_rejected(path, bundle.header)
    return bundle


@contextmanager
def open_pass(path: Path, migrations: Mapping[int, Migration] = MIGRATIONS) -> Iterator[BundlePass]:
    """Open a bundle, read its header and stand before its records; errors as ``read_header``."""
    with _open_line_reader(path) as line_reader:
        yield BundlePass(line_reader, migrations)


class BundlePass:
    """One pass over one bundle."""

    def __init__(self, line_reader: LineReader, migrations: Mapping[int, Migration]) -> None:
        self.line_reader = line_reader
        line = line_reader.first_line()
        try:
            self.header, self._steps = parse_header(line, migrations)
        except LineError as error:
            raise line_reader.error(error) from None
        classes = self.header.label_set.ids
        self._rules = RecordRules(classes, [generator.id for generator in self.header.generators])
        self._sequence = _Sequence(classes, self.header.counts.records)

    def records(self) -> Iterator[Description]:
        """All records. Raises ``BundleError``; ``finish`` is to follow."""
        try:
            with jsonlines.Reader(self.line_reader.lines(), loads=cast("Any", self._read)) as reader:
                for record in cast("Iterator[Description]", reader):
                    self._accept(record)
                    yield record
        except LineError as error:
            raise self.line_reader.error(error) from None

    def finish(self, digest: str | None) -> None:
        """Compare counts and digests, after the last record.

        Raises:
            BundleError: fewer records or other counts than the header says, or bytes that are not the expected ones.
        """
        problem = self._final_problem(digest)
        if problem is not None:
            raise self.line_reader.error(LineError(problem, FETCH))

    def _final_problem(self, digest: str | None) -> str | None:
        counts, seen = self.header.counts, self._sequence
        if seen.records != counts.records:
            end = f"{seen.records} of the header's {counts.records} records"
            return f"the file ends after {end}: it is truncated or edited"
        if seen.classes != counts.classes:
            return f"the header counts {counts.classes} classes with records, the file has {seen.classes}"
        body_digest, file_digest = self.line_reader.body_digest, self.line_reader.digest
        if body_digest != self.header.records_digest:
            return f"the records have the digest {body_digest}, the header says {self.header.records_digest}"
        if digest is not None and digest != file_digest:
            return f"the file has the digest {file_digest}, not the expected {printable(digest, 80)}"
        return None

    def _read(self, line: str) -> Description:
        if not self._steps:
            return self._rules.read(line)
        value = parse_json(line)
        check_canonical(value, line)
        for step in self._steps:
            value = step.record(value)
        return self._rules.read(canonical_json(value))

    def _accept(self, record: Description) -> None:
        suspect = self._sequence.add(record)
        if suspect is not None:
            self._confirm(suspect, record)

    def _confirm(self, suspect: Literal["text", "id"], record: Description) -> None:
        """Raise if an earlier record of the class really has this text or id, not only its hash."""
        value = getattr(record, suspect)
        with _open_line_reader(self.line_reader.path) as again:
            again.first_line()
            for line in again.lines():
                if again.number >= self.line_reader.number:
                    return
                earlier = self._read(line)
                if earlier.class_id == record.class_id and getattr(earlier, suspect) == value:
                    raise LineError(
                        f"the class {quoted(record.class_id)} has the {suspect} {quoted(value)} already "
                        f"on line {again.number}",
                        "Remove one of the two and write the bundle again",
                    )


class _Sequence:
    """What one record says about the next: classes in label set order, no text and no id twice in a class.

    Hashes stand for the texts, so that a million of them fit; an equal hash is a suspicion, not a finding.
    """

    def __init__(self, classes: Sequence[str], expected: int) -> None:
        self._positions = {class_id: position for position, class_id in enumerate(classes)}
        self._expected = expected
        self._current = -1
        self._texts: set[int] = set()
        self._ids: set[int] = set()
        self.classes = 0
        self.records = 0

    def add(self, record: Description) -> Literal["text", "id"] | None:
        """Take one record; returns "text" or "id" where that may have been there before in this class."""
        position = self._positions[record.class_id]
        if position != self._current:
            self._next_class(record.class_id, position)
        self.records += 1
        if self.records > self._expected:
            raise LineError(f"more records than the header's {self._expected}", FETCH)
        repeats_text = _seen(self._texts, record.text)
        repeats_id = record.id is not None and _seen(self._ids, record.id)
        return "text" if repeats_text else "id" if repeats_id else None

    def _next_class(self, class_id: str, position: int) -> None:
        if position < self._current:
            raise LineError(
                f"the class {quoted(class_id)} comes after a class that follows it in the label set",
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
