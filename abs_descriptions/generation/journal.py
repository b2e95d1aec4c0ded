"""The journal of a generation: every reply and failure, written to disk before the next one is processed.

JSON Lines in UTF-8. The first line identifies the file; each further line holds one outcome under the digest of what
was asked (``reply_digest``), so outcomes of another configuration are not found. Only replies are found again; a failed
request is sent again by the next run, which knows the tokens of its earlier attempts.

Each line ends with a check value, the beginning of the SHA-256 of what stands before it: a line that was changed is
found out, and its request is sent again. Lines of version 1 have none. A killed run leaves at most one incomplete line,
which the next run removes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from unicodedata import normalize

from abs_core.canonical import canonical_json
from abs_core.errors import StorageError
from abs_core.files import lock_file, storage_errors
from abs_core.text import printable
from abs_descriptions.generation.providers.base import Adaptation, Outcome, Reply, Tokens

__all__ = ["Journal", "JournalEntry"]

_HEADERS = {
    version: (canonical_json({"format": "abs-journal", "format_version": version}) + "\n").encode()
    for version in (1, 2)
}
_VERSION = 2

# seconds between two waits for the disk, each of which takes milliseconds
_SYNC_INTERVAL = 1.0

# A longer line at the beginning is not one of a journal.
_MAX_LINE = 1024 * 1024

# What a line may hold that has no check value; a line with more has lost its own.
_UNCHECKED = frozenset(
    (
        *("request", "class", "prompt", "sample", "status", "text", "finish_reason", "reason", "lost"),
        *("prompt_tokens", "completion_tokens"),
    )
)
_CHECK = re.compile(rb',"check":"([0-9a-f]{16})"\}\n?\Z')


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A reply, and what the journal says about it.

    Args:
        request: the digest under which it was first recorded.
        reply: what the model answered.
        server: the address that answered; empty if the line does not say.
    """

    request: str
    reply: Reply
    server: str


class Journal:
    """An append-only file of outcomes, locked by one process at a time.

    Memory holds only offsets, about 200 bytes per reply, and the tokens of failed requests.

    Args:
        path: created if it does not exist, with its folder.
        read_only: only look up outcomes, even while another run writes; nothing is created, repaired or added.

    Raises:
        StorageError: a file that is not a journal, is in use by another run, or cannot be read or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path, self.is_read_only = path, read_only
        self.failures = 0
        """Number of failed requests in the file."""
        self.damaged: list[int] = []
        """Numbers of unreadable or changed lines; their requests are sent again."""
        self.was_cut_off = False
        """Whether the last line was incomplete, as a killed run leaves it, and has been removed."""
        self._synced_at = time.monotonic()
        self._offsets: dict[str, int] = {}
        self._lost: dict[str, Tokens] = {}
        self._adaptations: dict[tuple[str, str], dict[Adaptation, None]] = {}
        self._stream = _open_to_read(path) if read_only else _open_to_write(path)
        try:
            if not read_only:
                _lock(self._stream, path)
            self._version = self._read_version()
            if not read_only:
                self._repair()
            self._index()
        except BaseException:
            self._stream.close()
            raise

    def __len__(self) -> int:
        """Number of good replies."""
        return len(self._offsets)

    @property
    def may_be_old(self) -> bool:
        """Whether it may have lines of version 1, whose digests are ``request_digest``."""
        return self._version == 1

    @property
    def is_empty(self) -> bool:
        """Whether it has no outcome of any request."""
        return not self._offsets and not self._lost

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close and unlock the file."""
        with suppress(OSError, ValueError):  # closed before, or on a disk that has failed
            if not self.is_read_only:
                self._sync()
        with suppress(OSError):
            self._stream.close()

    def find(self, request: str) -> Reply | None:
        """The good reply to the request with this digest, or None; see ``entry``."""
        entry = self.entry(request)
        return None if entry is None else entry.reply

    def entry(self, request: str) -> JournalEntry | None:
        """The good reply to the request with this digest, with what is said about it; or None.

        Raises:
            StorageError: the file cannot be read.
        """
        record = self._record(request)
        return None if record is None else _entry(record)

    def lost(self, request: str) -> Tokens:
        """The tokens of all failed attempts at the request with this digest."""
        return self._lost.get(request, Tokens())

    def adaptations(self, model: str, server: str | None = None) -> tuple[Adaptation, ...]:
        """How requests to a model, at one address or at any, were changed for it; the latest way at each comes last."""
        known = [ways for key, ways in self._adaptations.items() if key[0] == model and server in (None, key[1])]
        return tuple(dict.fromkeys(way for ways in known for way in ways))

    def add(self, request: str, outcome: Outcome, context: Mapping[str, Any]) -> Outcome:
        """Append an outcome; it has been handed to the operating system when this returns.

        The disk has it a second later, or when the file is closed: a kill costs nothing, a power cut that second.

        Args:
            request: the digest of the request.
            outcome: a good reply or a failure. What a model wrote is kept, whatever became of it.
            context: further keys of the line: class, prompt, sample, model, server; and answer, if it is "list".

        Returns:
            The outcome as a later run will find it: NFC, without lone surrogates.

        Raises:
            StorageError: the file cannot be written, for example because the disk is full.
        """
        record: dict[str, Any] = {"request": request, **context}
        if isinstance(outcome, Reply):
            outcome = replace(outcome, text=_storable(outcome.text))
            record |= {"status": "reply", "text": outcome.text, "finish_reason": outcome.finish_reason}
            record |= {"prompt_tokens": outcome.prompt_tokens, "completion_tokens": outcome.completion_tokens}
        else:
            record |= {"status": "failed", "reason": _storable(outcome.reason)}
            if outcome.text:
                record["text"] = _storable(outcome.text)
        if outcome.lost.total:
            record["lost"] = outcome.lost.to_dict()
        if outcome.adaptation != Adaptation():
            record["adaptation"] = outcome.adaptation.to_dict()
        self._note(record, self._append(record))
        return outcome

    def copy(self, request: str, source: Journal, changes: Mapping[str, str]) -> None:
        """Append the line with a good reply, of this journal or of another, with some of its keys changed.

        Raises:
            StorageError: the source cannot be read, or this file cannot be written.
        """
        record = source._record(request)
        if record is not None:
            record |= changes
            self._note(record, self._append(record))

    def _append(self, record: Mapping[str, Any]) -> int:
        with storage_errors(self.path, "write"):
            offset = self._stream.seek(0, 2)
            self._stream.write(_checked_line(record))
            self._stream.flush()
            if time.monotonic() - self._synced_at >= _SYNC_INTERVAL:
                self._sync()
        return offset

    def _sync(self) -> None:
        """Wait until the disk has the lines, so that a power cut costs what came later."""
        os.fsync(self._stream.fileno())
        self._synced_at = time.monotonic()

    def _record(self, request: str) -> dict[str, Any] | None:
        offset = self._offsets.get(request)
        if offset is None:
            return None
        with storage_errors(self.path, "read"):
            self._stream.seek(offset)
            return _parse(self._stream.readline(), self._version)

    def _note(self, record: Mapping[str, Any], offset: int) -> None:
        """Remember where the outcome of a line is, or what it cost."""
        request = record["request"]
        if record["status"] == "reply":
            self._offsets[request] = offset
        else:
            self.failures += 1
            lost = _lost(record)
            if lost.total:
                self._lost[request] = self.lost(request) + lost
        adaptation = _adaptation(record)
        if adaptation != Adaptation():
            key = str(record.get("model", "")), str(record.get("server", ""))
            known = self._adaptations.setdefault(key, {})
            known.pop(adaptation, None)
            known[adaptation] = None

    def _repair(self) -> None:
        """Remove an incomplete last line; write the first line of a new file."""
        with storage_errors(self.path, "write"):
            if self._stream.seek(0, 2) < len(_HEADERS[_VERSION]):
                self._stream.truncate(0)
                self._stream.write(_HEADERS[_VERSION])
                self._stream.flush()
                self._version = _VERSION
                return
            size, end = self._stream.seek(0, 2), self._after_last_line_end()
            self.was_cut_off = end < size
            self._stream.truncate(end)

    def _read_version(self) -> int:
        """The version of the file; a damaged first line counts as such if an outcome soon follows it."""
        with storage_errors(self.path, "read"):
            self._stream.seek(0)
            first, *following = [self._stream.readline(_MAX_LINE) for _ in range(6)]
        for version, header in _HEADERS.items():
            if first == header:
                return version
        if any(header.startswith(first) for header in _HEADERS.values()):
            return _VERSION  # empty, or cut off by a kill
        for version in (2, 1):
            if any(line.endswith(b"\n") and _parse(line, version) is not None for line in following):
                self.damaged.append(1)
                return version
        raise StorageError(
            f"{printable(str(self.path), 200)!r} is not a journal of descriptions",
            remedy="Move it away, or name another file",
        )

    def _after_last_line_end(self) -> int:
        end = self._stream.seek(0, 2)
        while end:
            start = max(0, end - 65536)
            self._stream.seek(start)
            position = self._stream.read(end - start).rfind(b"\n")
            if position >= 0:
                return start + position + 1
            end = start
        return 0

    def _index(self) -> None:
        with storage_errors(self.path, "read"):
            for number, offset, line in self._lines():
                record = _parse(line, self._version)
                if record is None:
                    self.damaged.append(number)
                else:
                    self._note(record, offset)

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Number, offset and bytes of each whole line after the first."""
        self._stream.seek(0)
        offset = len(self._stream.readline())
        for number, line in enumerate(self._stream, 2):
            if not line.endswith(b"\n"):
                return  # incomplete, or another run is writing it
            yield number, offset, line
            offset += len(line)


def _open_to_write(path: Path) -> BinaryIO:
    with storage_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")


def _open_to_read(path: Path) -> BinaryIO:
    with storage_errors(path, "read"):
        return path.open("rb") if path.exists() else io.BytesIO()


def _checked_line(record: Mapping[str, Any]) -> bytes:
    body = canonical_json({name: value for name, value in record.items() if name != "check"}).encode()[:-1]
    return body + b',"check":"%s"}\n' % _check_value(body)


def _check_value(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def _parse(line: bytes, version: int) -> dict[str, Any] | None:
    """The record of a line, or None if it is damaged."""
    check = _CHECK.search(line)
    if check is None and version != 1:
        return None
    if check is not None and _check_value(line[: check.start()]) != check[1]:
        return None
    try:
        record = json.loads(line)
        if check is None and not _UNCHECKED.issuperset(record):
            return None
        if not isinstance(record["request"], str) or record["status"] not in ("reply", "failed"):
            return None
        _lost(record)
        _adaptation(record)
        if record["status"] == "reply":
            _entry(record)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return dict(record)


def _entry(record: Mapping[str, Any]) -> JournalEntry:
    if record["finish_reason"] not in ("stop", "length") or not isinstance(record["text"], str):
        raise ValueError("not a reply")
    counts = int(record["prompt_tokens"]), int(record["completion_tokens"])
    reply = Reply(record["text"], record["finish_reason"], *counts, _lost(record), _adaptation(record))
    return JournalEntry(str(record.get("was", record["request"])), reply, str(record.get("server", "")))


def _lost(record: Mapping[str, Any]) -> Tokens:
    # Most lines have no such key, nor have those of older versions.
    return Tokens.from_dict(record["lost"]) if "lost" in record else Tokens()


def _adaptation(record: Mapping[str, Any]) -> Adaptation:
    return Adaptation.from_dict(record["adaptation"]) if "adaptation" in record else Adaptation()


def _storable(text: str) -> str:
    # A server may send lone surrogates, which UTF-8 cannot encode.
    return normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))


def _lock(stream: BinaryIO, path: Path) -> None:
    """Keep other runs out until the stream is closed, if the system supports locks."""
    if not lock_file(stream, wait=False):
        raise StorageError(
            f"the journal {printable(str(path), 200)!r} is in use by another run", remedy="Wait until it has finished"
        )
