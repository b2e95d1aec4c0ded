"""The journal of a generation: every reply and failure, written to disk before the next one is processed.

JSON Lines in UTF-8. The first line identifies the file; each further line holds one outcome under the digest of the
request and the provider (``request_digest``), so outcomes of another configuration are not found. Only good replies are
found again; a failed request is sent again by the next run, which knows the tokens of its earlier attempts.

A killed run leaves at most one incomplete line, which the next run removes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from unicodedata import normalize

import jsonlines

from abs_core.canonical import canonical_json
from abs_core.errors import StorageError
from abs_core.files import lock_file, storage_errors
from abs_core.text import printable
from abs_descriptions.generation.providers.base import Outcome, Reply, Tokens

__all__ = ["Journal"]

_HEADER = {"format": "abs-journal", "format_version": 1}
_HEADER_LINE = (canonical_json(_HEADER) + "\n").encode()


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
        self.path = path
        self.failures = 0
        """Number of failed requests in the file."""
        self.damaged: list[int] = []
        """Numbers of unreadable lines; their requests are sent again."""
        self._offsets: dict[str, int] = {}
        self._lost: dict[str, Tokens] = {}
        self._stream = _open_to_read(path) if read_only else _open_to_write(path)
        try:
            if read_only:
                self._check_header()
            else:
                _lock(self._stream, path)
                self._repair()
            self._index()
        except BaseException:
            self._stream.close()
            raise
        self._writer = jsonlines.Writer(self._stream, dumps=canonical_json, flush=True)

    def __len__(self) -> int:
        """Number of good replies."""
        return len(self._offsets)

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
        with suppress(OSError):
            self._stream.close()

    def find(self, request: str) -> Reply | None:
        """The good reply to the request with this digest, or None.

        Raises:
            StorageError: the file cannot be read.
        """
        offset = self._offsets.get(request)
        if offset is None:
            return None
        with storage_errors(self.path, "read"):
            self._stream.seek(offset)
            record = _parse(self._stream.readline())
        return _reply(record) if record is not None else None

    def lost(self, request: str) -> Tokens:
        """The tokens of all failed attempts at the request with this digest."""
        return self._lost.get(request, Tokens())

    def add(self, request: str, outcome: Outcome, context: Mapping[str, Any]) -> Outcome:
        """Append an outcome; it has been handed to the operating system when this returns.

        Args:
            request: the digest of the request.
            outcome: a good reply or a failure.
            context: further keys of the line, for human readers: class, prompt, sample.

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
        if outcome.lost.total:
            record["lost"] = outcome.lost.to_dict()
        with storage_errors(self.path, "write"):
            offset = self._size()
            self._writer.write(record)
        if isinstance(outcome, Reply):
            self._offsets[request] = offset
        else:
            self._note_failure(request, outcome.lost)
        return outcome

    def _note_failure(self, request: str, lost: Tokens) -> None:
        self.failures += 1
        if lost.total:
            self._lost[request] = self.lost(request) + lost

    def _size(self) -> int:
        return self._stream.seek(0, 2)

    def _repair(self) -> None:
        """Remove an incomplete last line; write the first line of a new file."""
        with storage_errors(self.path, "write"):
            if self._check_header() != _HEADER_LINE:
                self._stream.truncate(0)
                self._stream.write(_HEADER_LINE)
                self._stream.flush()
                return
            self._stream.truncate(self._after_last_line_end())

    def _check_header(self) -> bytes:
        """The first line, or the part of it that a killed run wrote."""
        with storage_errors(self.path, "read"):
            self._stream.seek(0)
            first = self._stream.read(len(_HEADER_LINE))
        if not _HEADER_LINE.startswith(first):
            raise StorageError(
                f"{printable(str(self.path), 200)!r} is not a journal of descriptions",
                remedy="Move it away, or name another file",
            )
        return first

    def _after_last_line_end(self) -> int:
        end = self._size()
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
            self._stream.seek(0)
            offset = len(self._stream.readline())
            for number, line in enumerate(self._stream, 2):
                if not line.endswith(b"\n"):
                    return  # incomplete, or another run is writing it
                record = _parse(line)
                if record is None:
                    self.damaged.append(number)
                elif record["status"] == "reply":
                    self._offsets[record["request"]] = offset
                else:
                    self._note_failure(record["request"], _lost(record))
                offset += len(line)


def _open_to_write(path: Path) -> BinaryIO:
    with storage_errors(path, "write"):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")


def _open_to_read(path: Path) -> BinaryIO:
    with storage_errors(path, "read"):
        return path.open("rb") if path.exists() else io.BytesIO()


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line, or None if it is damaged."""
    try:
        record = json.loads(line)
        if not isinstance(record["request"], str) or record["status"] not in ("reply", "failed"):
            return None
        _lost(record)
        if record["status"] == "reply":
            _reply(record)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return dict(record)


def _reply(record: Mapping[str, Any]) -> Reply:
    if record["finish_reason"] not in ("stop", "length") or not isinstance(record["text"], str):
        raise ValueError("not a reply")
    counts = int(record["prompt_tokens"]), int(record["completion_tokens"])
    return Reply(record["text"], record["finish_reason"], *counts, _lost(record))


def _lost(record: Mapping[str, Any]) -> Tokens:
    # Most lines have no such key, nor have those of older versions.
    return Tokens.from_dict(record["lost"]) if "lost" in record else Tokens()


def _storable(text: str) -> str:
    # A server may send lone surrogates, which UTF-8 cannot encode.
    return normalize("NFC", text.encode("utf-8", "replace").decode("utf-8"))


def _lock(stream: BinaryIO, path: Path) -> None:
    """Keep other runs out until the stream is closed, if the system supports locks."""
    if not lock_file(stream, wait=False):
        raise StorageError(
            f"the journal {printable(str(path), 200)!r} is in use by another run", remedy="Wait until it has finished"
        )
