"""The OpenAI Batch API: requests go as files, replies come within a day and cost half.

Each batch is uploaded, created, looked at from time to time, and collected. What it did not answer is asked again in a
new batch, a bounded number of times. What was submitted is on record (``batch_records``): an interrupted run leaves its
batches at work, and the next run with the same requests finds them instead of asking and paying again.

Equal requests share one line of a file and one reply.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from abs_core.canonical import canonical_json, digest
from abs_core.errors import BackendError, FatalBackendError, StorageError, UsageError
from abs_core.extras import require
from abs_core.files import atomic_write, ensure_writable, storage_errors
from abs_core.text import printable
from abs_descriptions.generation.providers.base import Failure, Outcome, Reply, Request, Tokens
from abs_descriptions.generation.providers.openai_batch_api import (
    MOST_BYTES,
    MOST_REQUESTS,
    BatchApi,
    BatchState,
    custom_id,
    write_batch_file,
)
from abs_descriptions.generation.providers.openai_server import OpenAIServer, refuses_schema
from abs_descriptions.generation.providers.response_validation import ValidatedResponse
from abs_descriptions.generation.providers.retry import RetryPolicy

__all__ = ["BatchRecord", "BatchRecords", "OpenAIBatchProvider"]


_FORMAT = {"format": "abs-batch", "format_version": 1}


# Servers keep the files of a batch for about 30 days; what is older than this cannot be collected any more.
_KEPT_SECONDS = 45 * 86400


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch.

    Args:
        base_url, model: where it was submitted.
        file_id: of the input file at the server.
        batch_id: at the server; "" where it is not known whether the batch was created.
        created: seconds since 1970.
        ids: the custom ids of its requests, sorted.
        lost: by custom id, what earlier batches took for requests that are asked again in this one.
    """

    base_url: str
    model: str
    file_id: str
    batch_id: str
    created: float
    ids: tuple[str, ...]
    lost: Mapping[str, Tokens] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A name for its file, made of its ids."""
        return digest(list(self.ids)).removeprefix("sha256:")

    def with_batch(self, batch_id: str) -> BatchRecord:
        """The record when the batch is known."""
        return replace(self, batch_id=batch_id)


class BatchRecords:
    """The records in a folder.

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, record: BatchRecord) -> Path:
        """The file of a record."""
        return self.folder / f"{record.name}.json"

    def new(self, base_url: str, model: str, file_id: str, lost: Mapping[str, Tokens]) -> BatchRecord:
        """Write the record of a batch that is about to be created.

        Args:
            base_url, model, file_id: see ``BatchRecord``.
            lost: what earlier batches took for each of its custom ids.

        Raises:
            StorageError: the folder cannot be written.
        """
        counts = {name: tokens for name, tokens in lost.items() if tokens.total}
        record = BatchRecord(base_url, model, file_id, "", time.time(), tuple(sorted(lost)), counts)
        self.save(record)
        return record

    def save(self, record: BatchRecord) -> None:
        """Write a record over an older one of the same ids.

        Raises:
            StorageError: the folder cannot be written.
        """
        value = {
            **_FORMAT,
            "base_url": record.base_url,
            "model": record.model,
            "file_id": record.file_id,
            "batch_id": record.batch_id,
            "created": record.created,
            "ids": list(record.ids),
            "lost": {name: tokens.to_dict() for name, tokens in record.lost.items()},
        }
        with atomic_write(self.path(record)) as stream:
            stream.write(canonical_json(value).encode())

    def remove(self, record: BatchRecord) -> None:
        """Forget a batch."""
        with storage_errors(self.folder, "write in"):
            self.path(record).unlink(missing_ok=True)

    def find(self, base_url: str, model: str) -> list[BatchRecord]:
        """The batches of a model at a server; records too old to be of use are removed.

        Raises:
            StorageError: a record that cannot be read. It is not passed over, for then its replies would be paid again.
        """
        found = []
        for path in sorted(self.folder.glob("*.json")):
            record = _read(path)
            if record.created < time.time() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)
            elif (record.base_url, record.model) == (base_url, model):
                found.append(record)
        return found


def _read(path: Path) -> BatchRecord:
    with storage_errors(path, "read"):
        data = path.read_bytes()
    try:
        value: dict[str, Any] = json.loads(data)
        if {name: value[name] for name in _FORMAT} != _FORMAT:
            raise ValueError("another format")
        texts = {name: value[name] for name in ("base_url", "model", "file_id", "batch_id")}
        ids = tuple(value["ids"])
        if not all(isinstance(one, str) for one in (*texts.values(), *ids)):
            raise TypeError("no text")
        # Records of older versions have none.
        lost = {name: Tokens.from_dict(tokens) for name, tokens in value.get("lost", {}).items()}
        return BatchRecord(**texts, created=float(value["created"]), ids=ids, lost=lost)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise StorageError(
            f"the record of a batch {str(path)!r} cannot be read",
            remedy="Delete it; if its batch was submitted, its replies are asked for and paid once more",
        ) from error


# A batch that the server has no room for is tried again, at most so many times and at most an hour apart: a day.
_QUEUE_TRIES, _LONGEST_QUEUE_WAIT = 30, 3600.0


class OpenAIBatchProvider:
    """A model on a server with the Batch API.

    Args:
        model: as the server calls it.
        keep: the folder for the records of batches under way. A run that is to find the batches of another must name
            the same folder.
        base_url, key_variable: see ``OpenAIServer``.
        concurrency: batches under way at once.
        batch_size: requests in one batch, at most 50,000.
        batch_bytes: of one input file, at most 200 MB.
        poll_interval: seconds between two looks at the batches.
        attempts: batches that a request is put into before it fails.
        patience: when to repeat a call to the server that went wrong.

    Raises:
        UsageError: a base URL that is none, or that holds credentials; a number out of its range.
    """

    name = "openai-batch"

    def __init__(
        self,
        model: str,
        keep: Path,
        *,
        base_url: str | None = None,
        key_variable: str | None = None,
        concurrency: int = 8,
        batch_size: int = MOST_REQUESTS,
        batch_bytes: int = MOST_BYTES,
        poll_interval: float = 30.0,
        attempts: int = 3,
        patience: RetryPolicy | None = None,
    ) -> None:
        if not (1 <= batch_size <= MOST_REQUESTS and 1 <= batch_bytes <= MOST_BYTES):
            raise UsageError(
                f"a batch has 1 to {MOST_REQUESTS} requests and at most {MOST_BYTES} bytes", remedy="Give another size"
            )
        if concurrency < 1 or attempts < 1 or not poll_interval > 0:
            raise UsageError(
                "the concurrency and the attempts are at least 1 and the poll interval is above zero",
                remedy="Give larger numbers",
            )
        self.model = model
        self.keep = keep
        self.server = OpenAIServer(base_url, key_variable)
        self.concurrency, self.batch_size, self.batch_bytes = concurrency, batch_size, batch_bytes
        self.poll_interval, self.attempts = poll_interval, attempts
        self.patience = patience or RetryPolicy()

    def key(self) -> Mapping[str, Any]:
        """That of the backend "openai": a reply is the same whichever way it is asked for, so a journal serves both."""
        return {"backend": "openai", "base_url": self.server.base_url, "model": self.model}

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """See ``base.Backend``; replies come batch by batch. Closing the iterator leaves the batches at work.

        Raises:
            MissingExtraError: the extra "openai" is not installed.
            UsageError: the variable that is to hold the key is not set.
            StorageError: the folder for records cannot be written, or holds one that cannot be read.
            FatalBackendError: a wrong key, a spent quota, an unknown model, no Batch API, a batch that was refused or
                cancelled. Replies that were collected are handed out first, and as failures those requests whose
                attempts are paid.
            BackendError: the server does not answer; the batches are found again by the next run.
        """
        require("openai")
        key = self.server.read_key()
        ensure_writable(self.keep)
        return _BatchRun(self, key, iter(requests)).outcomes()


@dataclass(slots=True, eq=False)
class _Live:
    """A batch under way, and who waits for its replies."""

    record: BatchRecord
    requests: dict[str, list[Request]]
    refused: int = 0
    not_before: float = 0.0


class _BatchRun:
    """One call of ``complete``."""

    def __init__(self, backend: OpenAIBatchProvider, key: str | None, requests: Iterator[Request]) -> None:
        self._backend, self._key, self._requests = backend, key, requests
        self._records = BatchRecords(backend.keep)
        self._again: deque[Request] = deque()
        self._tries = Counter[str]()
        self._live: list[_Live] = []
        self._schema = True
        self._api: BatchApi
        # Batches of an earlier run are collected when all requests are known that wait for them.
        self._found = [_Live(one, {}) for one in self._records.find(backend.server.base_url, backend.model)]
        self._home = {name: one for one in self._found for name in one.record.ids}
        self._lost = {name: tokens for one in self._found for name, tokens in one.record.lost.items()}

    def outcomes(self) -> Iterator[tuple[Request, Outcome]]:
        """Submit, wait and collect until every request has its outcome."""
        try:
            yield from self._work()
        except BackendError as error:
            # What waits for a new batch is on no record.
            for request in self._again:
                lost = self._lost.get(custom_id(self._backend.key(), request))
                if lost is not None:
                    yield request, Failure(error.message, lost)
            raise

    def _work(self) -> Iterator[tuple[Request, Outcome]]:
        backend = self._backend
        with BatchApi(backend.server, self._key, backend.patience) as self._api:
            while True:
                self._fill()
                if not self._live:
                    return
                ended = [(one, state) for one in [*self._live] if (state := self._look(one)) is not None]
                for one, state in ended:
                    self._live.remove(one)
                    yield from self._collect(one, state)
                if not ended:
                    time.sleep(backend.poll_interval)

    def _fill(self) -> None:
        """Put new batches under way while there is room and there are requests."""
        backend, source = self._backend, self._source()
        while len(self._live) < backend.concurrency:
            with tempfile.TemporaryDirectory(dir=backend.keep, prefix=".input-") as folder:
                path = Path(folder) / "input.jsonl"
                written = write_batch_file(
                    path,
                    source,
                    server=backend.server,
                    model=backend.model,
                    key=backend.key(),
                    schema=self._schema,
                    most_requests=backend.batch_size,
                    most_bytes=backend.batch_bytes,
                )
                if written.left is not None:
                    self._again.appendleft(written.left)
                if not written.requests:
                    break
                file_id = self._upload(path, written.requests)
            lost = {name: self._lost.get(name, Tokens()) for name in written.requests}
            record = self._records.new(backend.server.base_url, backend.model, file_id, lost)
            one = _Live(record, dict(written.requests))
            self._home.update(dict.fromkeys(record.ids, one))
            self._start(one, look_up=False)
        else:
            return
        self._resume()

    def _upload(self, path: Path, requests: Mapping[str, list[Request]]) -> str:
        try:
            return self._api.upload(path)
        except BackendError:
            self._again += _flat(requests)
            raise

    def _resume(self) -> None:
        """Take up the batches of an earlier run that requests wait for; all requests are known now."""
        for one in [one for one in self._found if one.requests]:
            self._found.remove(one)
            batch_id = one.record.batch_id or self._api.find(one.record.file_id)
            if batch_id:
                one.record = one.record.with_batch(batch_id)
                self._records.save(one.record)
                self._live.append(one)
            else:
                # The earlier run ended before it was created.
                self._forget(one)
                self._records.remove(one.record)
                self._again += _flat(one.requests)
        if self._again:
            self._fill()

    def _source(self) -> Iterator[Request]:
        """Requests to be put into a new batch; one that is in a batch already waits for that one."""
        key = self._backend.key()
        while True:
            request = self._again.popleft() if self._again else next(self._requests, None)
            if request is None:
                return
            name = custom_id(key, request)
            home = self._home.get(name)
            if home is None:
                yield request
            else:
                home.requests.setdefault(name, []).append(request)

    def _start(self, one: _Live, *, look_up: bool) -> None:
        one.record = one.record.with_batch(self._api.create(one.record.file_id, look_up=look_up))
        self._records.save(one.record)
        self._live.append(one)

    def _look(self, one: _Live) -> BatchState | None:
        """The state of a batch that has ended, else None; one that was refused for want of room is created anew."""
        if time.monotonic() < one.not_before:
            return None
        if not one.record.batch_id:
            self._live.remove(one)
            self._start(one, look_up=True)
        state = self._api.look(one.record.batch_id, self._records.path(one.record))
        if state.is_queue_full and one.refused < _QUEUE_TRIES:
            wait = min(self._backend.poll_interval * 2**one.refused, _LONGEST_QUEUE_WAIT)
            one.refused += 1
            one.not_before = time.monotonic() + wait
            one.record = one.record.with_batch("")
            self._records.save(one.record)
            return None
        return state if state.has_ended else None

    def _collect(self, one: _Live, state: BatchState) -> Iterator[tuple[Request, Outcome]]:
        """Hand out replies and final failures, and put what is to be asked again where new batches are made of."""
        if state.status == "failed":
            # It was refused before any request of it ran.
            self._forget(one)
            self._records.remove(one.record)
            self._again += _flat(one.requests)
            raise FatalBackendError(f"{self._backend.server.host} refused a batch: {state.why}", remedy=state.remedy)
        answers = self._api.results(state.batch_id, self._records.path(one.record))
        missing = ValidatedResponse("again", f"the batch ended as {state.status} before this request")
        end: ValidatedResponse | None = None
        again: list[tuple[str, list[Request], ValidatedResponse]] = []
        for name, requests in one.requests.items():
            outcome = self._outcome(name, requests[0], answers.get(name, missing))
            if isinstance(outcome, ValidatedResponse):
                end = outcome if outcome.action == "stop" else end
                again.append((name, requests, outcome))
                continue
            for request in requests:
                yield request, outcome
        if state.status == "cancelled" and again and end is None:
            reason = f"the batch {printable(state.batch_id, 80)!r} was cancelled"
            end = ValidatedResponse("stop", reason, remedy="Run the same command again to ask for the rest")
        # The others are settled, so that it is known now what is left of a cost limit.
        for name, requests, verdict in again:
            lost = self._lost.get(name, Tokens())
            if end is not None or not verdict.billed or requests[0].may_repeat(lost):
                self._again += requests
            else:
                failure = Failure(f"{verdict.reason}; the cost limit allows no further attempt", lost)
                yield from ((request, failure) for request in requests)
        self._forget(one)
        if end is not None:
            raise FatalBackendError(end.reason, remedy=end.remedy)

    def _outcome(self, name: str, request: Request, answer: Reply | ValidatedResponse) -> Outcome | ValidatedResponse:
        """The outcome of a request; a verdict where it is to be asked again, or where the run ends."""
        lost = self._lost.get(name, Tokens())
        if isinstance(answer, Reply):
            return replace(answer, lost=lost)
        if answer.billed:
            lost = self._lost[name] = lost + answer.lost(request)
        self._tries[name] += 1
        tries = self._tries[name]
        if refuses_schema(request, answer) and tries == 1 < self._backend.attempts:
            # The reply is checked in any case, so that it may be asked for in words alone.
            self._schema = False
            return ValidatedResponse("again", answer.reason)
        if answer.action == "stop" or (answer.action == "again" and tries < self._backend.attempts):
            return answer
        return Failure(f"{answer.reason} (asked {tries} times)" if tries > 1 else answer.reason, lost)

    def _forget(self, one: _Live) -> None:
        """All that was waited for is handed out; what nobody asked for yet may be asked for by another run."""
        for name in one.record.ids:
            self._home.pop(name, None)
        if len(one.requests) == len(one.record.ids):
            self._records.remove(one.record)


def _flat(requests: Mapping[str, list[Request]]) -> list[Request]:
    return [request for same in requests.values() for request in same]
