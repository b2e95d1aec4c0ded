"""Write a bundle: any order of records in, one exact sequence of bytes out, whole or not at all.

The header comes first and holds counts and digest of what follows, so records go to a temporary file and are copied
behind the header when all have come. Records that do not arrive in label set order are put into it (stably) by
remembering where in the temporary file each one lies: memory grows by 24 bytes a record.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

import jsonlines
from pydantic import ValidationError

from abs_core.canonical import canonical_json
from abs_core.descriptions import Description, Rejection
from abs_core.errors import BundleError
from abs_core.files import atomic_write, storage_errors
from abs_core.labels import ClassLabel, LabelSet
from abs_core.text import printable, quoted, validation_message
from abs_descriptions.bundles.codec import LineError, RecordRules, nfc, parse_header, serialize_header, serialize_record
from abs_descriptions.bundles.format import (
    MAX_HEADER_BYTES,
    BundleHeader,
    ClassEntry,
    Counts,
    Generator,
    LabelSetEntry,
    RejectionModel,
    header_problem,
)
from abs_descriptions.bundles.reader import Bundle, rejected_path, rejection_value

__all__ = ["Repeat", "SpoolFile", "write_bundle"]

_SPOOL_BUFFER = 1024 * 1024


class Repeat(NamedTuple):
    """A text or an id that appears twice in one class."""

    class_id: str
    field: str
    value: str


class SpoolFile:
    """Records in a temporary file, and in memory the class, the place and the hashes of text and id of each.

    Args:
        stream: an empty temporary file.
        classes: the ids of the label set, in its order.
    """

    def __init__(self, stream: IO[bytes], classes: Sequence[str]) -> None:
        self._stream = stream
        self._writer = jsonlines.Writer(stream, dumps=str)  # what it is given is JSON already
        self._classes = classes
        self._order = {class_id: position for position, class_id in enumerate(classes)}
        self._class_indices = array("L")
        self._starts = array("Q", [0])
        self._texts = array("q")
        self._ids: dict[int, int] = {}
        self._last = self._end = 0
        self._in_order = True

    def __len__(self) -> int:
        return len(self._class_indices)

    @property
    def classes(self) -> int:
        """How many classes have records."""
        return len(set(self._class_indices))

    def add(self, record: Description) -> None:
        """Write a record that keeps the rules at the end of the file."""
        class_index = self._order[record.class_id]
        if class_index < self._last:
            self._in_order = False
        self._last = class_index
        if record.id is not None:
            self._ids[len(self._class_indices)] = hash(record.id)
        self._class_indices.append(class_index)
        self._end += self._writer.write(serialize_record(record))
        self._starts.append(self._end)
        self._texts.append(hash(record.text))

    def blocks(self) -> Iterator[bytes]:
        """The bytes of all records in label set order; within a class as they came."""
        if not self._in_order:
            yield from (self._line(position) for position in self._positions())
            return
        self._stream.seek(0)
        while block := self._stream.read(_SPOOL_BUFFER):
            yield block

    def repeat(self) -> Repeat | None:
        """The first class, in label set order, that has a text or an id twice, and which one."""
        for class_index in self._suspects():
            texts: set[str] = set()
            ids: set[str] = set()
            for position in (p for p, other in enumerate(self._class_indices) if other == class_index):
                record = json.loads(self._line(position))
                for field, seen in (("text", texts), ("id", ids)):
                    value = record.get(field)
                    if value in seen:
                        return Repeat(self._classes[class_index], field, value)
                    if value is not None:
                        seen.add(value)
        return None

    def _suspects(self) -> list[int]:
        """The classes in which a hash appears twice. Equal hashes are no proof."""
        suspects: dict[int, None] = {}
        current, texts, ids = -1, set[int](), set[int]()
        for position in self._positions():
            class_index = self._class_indices[position]
            if class_index != current:
                current, texts, ids = class_index, set(), set()
            text, record_id = self._texts[position], self._ids.get(position)
            if text in texts or (record_id is not None and record_id in ids):
                suspects[class_index] = None
            texts.add(text)
            if record_id is not None:
                ids.add(record_id)
        return list(suspects)

    def _positions(self) -> Sequence[int]:
        count = range(len(self))
        return count if self._in_order else sorted(count, key=self._class_indices.__getitem__)

    def _line(self, position: int) -> bytes:
        self._stream.seek(self._starts[position])
        return self._stream.read(self._starts[position + 1] - self._starts[position])


_COPY_BUFFER = 1024 * 1024
_NO_DIGEST = "sha256:" + "0" * 64


def write_bundle(
    path: Path,
    *,
    name: str,
    version: str,
    created: str,
    label_set: LabelSet,
    generators: Sequence[Generator],
    license: str,
    records: Iterable[Description],
    rejected: Iterable[Rejection] = (),
    parents: Sequence[str] = (),
    complete: bool = True,
) -> Bundle:
    """Write a bundle to ``path`` and its rejected completions, if there are any, beside it.

    The same arguments give the same bytes. Strings are brought to Unicode form NFC. A file that was at ``path`` is
    replaced; a store refuses to change a version, this function does not know of versions.

    Args:
        path: a name in ``.jsonl``.
        created: UTC, ``2025-01-31T12:00:00Z``.
        records: in any order; written class by class in label set order, within a class as they came.
        parents: pinned references of the bundles that this one was made of.
        complete: False where the run was stopped early; a complete bundle describes every class.

    Raises:
        BundleError: a record or header field that breaks a rule of the format; nothing is written.
        StorageError: the files cannot be written.
    """
    draft = _draft_header(name, version, created, label_set, generators, license, parents)
    rules = RecordRules(draft.label_set.ids, [entry.id for entry in draft.generators])
    with storage_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # On the target's own disk: the default temporary folder is often memory.
        with (
            TemporaryFile(dir=path.parent, buffering=_COPY_BUFFER) as accepted,
            TemporaryFile(dir=path.parent) as refused,
        ):
            spool_file = SpoolFile(accepted, draft.label_set.ids)
            _spool_records(path, spool_file, records, rules)
            rejected_count, rejected_digest = _spool_rejected(path, refused, rejected, rules)
            header = draft.model_copy(
                update={
                    "complete": complete,
                    "counts": Counts(classes=spool_file.classes, records=len(spool_file), rejected=rejected_count),
                    "records_digest": _digest_of(spool_file.blocks()),
                    "rejected_digest": rejected_digest,
                }
            )
            line = _header_line(header)
            _place_rejected(path, refused, rejected_count)
            return Bundle(path, header, _place(path, line, spool_file.blocks()))


def _digest_of(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return "sha256:" + digest.hexdigest()


def _class_entry(label: ClassLabel) -> ClassEntry:
    # An empty list would be another spelling of no aliases, and change the bytes of every bundle without them.
    aliases = tuple(map(nfc, label.aliases)) or None
    return ClassEntry(
        id=nfc(label.id), name=nfc(label.name), group=nfc(label.group), note=nfc(label.note), aliases=aliases
    )


def _draft_header(
    name: str,
    version: str,
    created: str,
    label_set: LabelSet,
    generators: Sequence[Generator],
    license: str,
    parents: Sequence[str],
) -> BundleHeader:
    """The header before anything is counted, every field checked and in NFC."""
    try:
        classes = tuple(map(_class_entry, label_set.classes))
        labels = LabelSetEntry(
            name=nfc(label_set.name), version=nfc(label_set.version), classes=classes, digest=label_set.digest
        )
        draft = BundleHeader.model_validate(
            {
                "format": "abs-descriptions",
                "format_version": 1,
                "name": name,
                "version": version,
                "created": created,
                "label_set": labels,
                "generators": tuple(generators),
                "licence": nfc(license),
                "parents": tuple(parents),
                "complete": False,
                "counts": Counts(classes=0, records=0, rejected=0),
                "records_digest": _NO_DIGEST,
                "rejected_digest": _NO_DIGEST,
            }
        )
    except ValidationError as error:
        raise _refusal(name, validation_message(error)) from None
    problem = header_problem(draft)
    if problem is not None:
        raise _refusal(name, problem)
    return draft


def _refusal(name: str, problem: str) -> BundleError:
    return BundleError(f"cannot write the bundle {quoted(str(name))}: {problem}", remedy="Correct the named value")


def _header_line(header: BundleHeader) -> bytes:
    """Line 1, read back once by the reader's own rules."""
    try:
        text = serialize_header(header)
        parse_header(text)
    except LineError as error:
        raise _refusal(header.name, error.message) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise _refusal(header.name, str(error)) from None
    line = text.encode() + b"\n"
    if len(line) > MAX_HEADER_BYTES:
        raise _refusal(header.name, f"the header has {len(line)} bytes, more than {MAX_HEADER_BYTES}")
    return line


def _spool_records(path: Path, spool_file: SpoolFile, records: Iterable[Description], rules: RecordRules) -> None:
    """Write checked records to ``spool_file`` as they come."""
    for number, record in enumerate(records, 1):
        try:
            spool_file.add(rules.normalized(record))
        except LineError as error:
            raise _bad_record(path, f"record {number}", error.message) from None
        except (TypeError, AttributeError):
            raise _bad_record(path, f"record {number}", "a field has the wrong type") from None
    repeat = spool_file.repeat()
    if repeat is not None:
        problem = f"the {repeat.field} {quoted(repeat.value)} appears twice"
        raise _bad_record(path, f"class {quoted(repeat.class_id)}", problem)


def _bad_record(path: Path, which: str, problem: str) -> BundleError:
    return BundleError(
        f"cannot write {printable(str(path))}: {which}: {problem}", remedy="Clean the descriptions before writing them"
    )


def _spool_rejected(
    path: Path, stream: IO[bytes], rejected: Iterable[Rejection], rules: RecordRules
) -> tuple[int, str]:
    """Write rejected completions to ``stream``; their number and the digest of the bytes."""
    count = 0
    writer = jsonlines.Writer(stream, dumps=canonical_json)
    for count, rejection in enumerate(rejected, 1):
        value = rejection_value(rejection)
        problem = rules.provenance_problem(rejection.provenance) or rules.reviewer_problem(rejection.rejected_by)
        if not rules.knows_class(rejection.class_id):
            problem = f"the class {quoted(rejection.class_id)} is not in the label set"
        try:
            RejectionModel.model_validate_json(canonical_json(value))
        except ValidationError as error:
            problem = validation_message(error)
        if problem is not None:
            raise _bad_record(path, f"rejected completion {count}", problem)
        writer.write(value)
    stream.seek(0)
    return count, _digest_of(iter(partial(stream.read, _COPY_BUFFER), b""))


def _place_rejected(path: Path, rejected_file: IO[bytes], count: int) -> None:
    target = rejected_path(path)
    if count == 0:
        target.unlink(missing_ok=True)
        return
    rejected_file.seek(0)
    with atomic_write(target) as stream:
        shutil.copyfileobj(rejected_file, stream, _COPY_BUFFER)


def _place(path: Path, header: bytes, blocks: Iterable[bytes]) -> str:
    """Write header and records; the digest of the whole file."""
    digest = hashlib.sha256(header)
    with atomic_write(path) as stream:
        stream.write(header)
        for block in blocks:
            digest.update(block)
            stream.write(block)
    return "sha256:" + digest.hexdigest()
