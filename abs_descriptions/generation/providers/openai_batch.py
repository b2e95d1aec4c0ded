"""The OpenAI Batch API: requests are uploaded as files, replies arrive within a day and cost half.

Each batch is uploaded, created, polled, and collected. What it did not answer is put into a new batch, a bounded number
of times. Submitted batches are recorded: an interrupted run leaves them running at the server, and the next run with
the same requests finds them instead of sending and paying for them again.

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
from abs_core.errors import FatalProviderError, ProviderError, StorageError, UsageError
from abs_core.extras import require
from abs_core.files import atomic_write, ensure_writable, storage_errors
from abs_core.text import printable
from abs_descriptions.generation.providers.base import (
    NO_ADAPTATION,
    Adaptation,
    Failure,
    Outcome,
    Reply,
    Request,
    Tokens,
    max_tokens_per_attempt,
)
from abs_descriptions.generation.providers.error_responses import ResponseProblem
from abs_descriptions.generation.providers.openai_batch_api import (
    MAX_BYTES,
    MAX_REQUESTS,
    BatchApi,
    BatchState,
    custom_id,
    write_batch_file,
)
from abs_descriptions.generation.providers.openai_server import OpenAIServer, refuses_schema, validate_extra_body
from abs_descriptions.generation.providers.parameter_refusals import (
    adapt_to_reasoning,
    adapt_to_refusal,
    apply_change,
)
from abs_descriptions.generation.providers.retry import RetryPolicy

__all__ = ["BatchRecord", "BatchRecords", "OpenAIBatchProvider"]

_FORMAT = {"format": "abs-batch", "format_version": 1}

# Servers keep the files of a batch for about 30 days; an older batch can no longer be collected.
_KEPT_SECONDS = 45 * 86400


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A submitted batch.

    Args:
        base_url, model: where it was submitted.
        file_id: the server's id of the input file.
        batch_id: the server's id of the batch; "" if it is unknown whether the batch was created.
        created: seconds since 1970.
        ids: the custom ids of its requests, sorted.
        lost: custom id -> tokens that earlier batches took for this request.
        adaptation: how its requests were changed for the model.
    """

    base_url: str
    model: str
    file_id: str
    batch_id: str
    created: float
    ids: tuple[str, ...]
    lost: Mapping[str, Tokens] = field(default_factory=dict)
    adaptation: Adaptation = NO_ADAPTATION

    @property
    def name(self) -> str:
        """The name of its file, derived from its ids."""
        return digest(list(self.ids)).removeprefix("sha256:")

    def with_batch(self, batch_id: str) -> BatchRecord:
        """The record with the id of the batch."""
        return replace(self, batch_id=batch_id)


class BatchRecords:
    """The records of submitted batches in a folder.

    Args:
        folder: created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, record: BatchRecord) -> Path:
        """The file of a record."""
        return self.folder / f"{record.name}.json"

    def new(
        self,
        base_url: str,
        model: str,
        file_id: str,
        lost: Mapping[str, Tokens],
        adaptation: Adaptation = NO_ADAPTATION,
    ) -> BatchRecord:
        """Write the record of a batch that is about to be created.

        Args:
            base_url, model, file_id, adaptation: see ``BatchRecord``.
            lost: custom id -> tokens that earlier batches took, for every request of the batch.

        Raises:
            StorageError: the folder cannot be written.
        """
        counts = {name: tokens for name, tokens in lost.items() if tokens.total}
        record = BatchRecord(base_url, model, file_id, "", time.time(), tuple(sorted(lost)), counts, adaptation)
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
            "adaptation": record.adaptation.to_dict(),
        }
        with atomic_write(self.path(record)) as stream:
            stream.write(canonical_json(value).encode())

    def remove(self, record: BatchRecord) -> None:
        """Delete a record."""
        with storage_errors(self.folder, "write in"):
            self.path(record).unlink(missing_ok=True)

    def find(self, base_url: str, model: str) -> list[BatchRecord]:
        """The batches of a model at a server; records too old to be of use are deleted.

        Raises:
            StorageError: a record that cannot be read. It is not skipped, because its replies would be paid for twice.
        """
        records = []
        for path in sorted(self.folder.glob("*.json")):
            record = _read(path)
            if record.created < time.time() - _KEPT_SECONDS:
                path.unlink(missing_ok=True)
            elif (record.base_url, record.model) == (base_url, model):
                records.append(record)
        return records


def _read(path: Path) -> BatchRecord:
    with storage_errors(path, "read"):
        data = path.read_bytes()
    try:
        value: dict[str, Any] = json.loads(data)
        if {name: value[name] for name in _FORMAT} != _FORMAT:
            raise ValueError("another format")
        texts = {name: value[name] for name in ("base_url", "model", "file_id", "batch_id")}
        ids = tuple(value["ids"])
        if not all(isinstance(text, str) for text in (*texts.values(), *ids)):
            raise TypeError("not a text")
        # Records of older versions have no such keys.
        lost = {name: Tokens.from_dict(tokens) for name, tokens in value.get("lost", {}).items()}
        adaptation = Adaptation.from_dict(value.get("adaptation", {}))
        return BatchRecord(**texts, created=float(value["created"]), ids=ids, lost=lost, adaptation=adaptation)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StorageError(
            f"the record of a batch {str(path)!r} cannot be read",
            remedy="Delete it; if its batch was submitted, its requests are sent and paid for once more",
        ) from error


# A batch for which the server has no capacity is created again, up to this often and at most an hour apart: for a day.
_QUEUE_ATTEMPTS, _LONGEST_QUEUE_WAIT = 30, 3600.0


class OpenAIBatchProvider:
    """A model on a server with the Batch API.

    Args:
        model: as the server calls it.
        keep: the folder for the records of submitted batches. A run finds the batches of an earlier run in the same
            folder.
        base_url, key_variable: see ``OpenAIServer``.
        concurrency: batches in progress at once.
        batch_size: requests in one batch, at most 50,000.
        batch_bytes: of one input file, at most 200 MB.
        poll_interval: seconds between two checks of the batches.
        attempts: the number of batches that a request is put into before it fails.
        extra_body: further members of each request, as JSON values.
        retry_policy: when to repeat a failed call to the server.

    Raises:
        UsageError: an invalid base URL, or one with credentials; a number out of its range.
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
        batch_size: int = MAX_REQUESTS,
        batch_bytes: int = MAX_BYTES,
        poll_interval: float = 30.0,
        attempts: int = 3,
        extra_body: Mapping[str, Any] | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        if not (1 <= batch_size <= MAX_REQUESTS and 1 <= batch_bytes <= MAX_BYTES):
            raise UsageError(
                f"a batch must have 1 to {MAX_REQUESTS} requests and up to {MAX_BYTES} bytes, "
                f"got {batch_size} and {batch_bytes}",
                remedy="Give another size",
            )
        if concurrency < 1 or attempts < 1 or not poll_interval > 0:
            raise UsageError(
                "concurrency and attempts must be at least 1 and the poll interval above 0, "
                f"got {concurrency}, {attempts} and {poll_interval:g}",
                remedy="Give larger numbers",
            )
        self.model = model
        self.keep = keep
        self.adaptation = Adaptation()
        self.server = OpenAIServer(base_url, key_variable)
        self.concurrency, self.batch_size, self.batch_bytes = concurrency, batch_size, batch_bytes
        self.poll_interval, self.attempts = poll_interval, attempts
        self.extra_body = validate_extra_body(extra_body)
        self.retry_policy = retry_policy or RetryPolicy()

    def key(self) -> Mapping[str, Any]:
        """The key of "openai": a reply is the same whichever way it is requested, so both share a journal."""
        key: dict[str, Any] = {"backend": "openai", "base_url": self.server.base_url, "model": self.model}
        return key | ({"extra_body": dict(self.extra_body)} if self.extra_body else {})

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """See ``base.Provider``; outcomes are yielded batch by batch. Closing the iterator leaves the batches running.

        Raises:
            MissingExtraError: the extra "openai" is not installed.
            UsageError: the environment variable for the key is not set.
            StorageError: the folder for records cannot be written, or a record in it cannot be read.
            FatalProviderError: a wrong key, an exhausted quota, an unknown model, no Batch API, a refused or cancelled
                batch. Before that, collected replies are yielded and, as failures, requests with paid attempts.
            ProviderError: the server does not answer; the next run finds the batches again.
        """
        require("openai")
        key = self.server.read_key()
        ensure_writable(self.keep)
        return _BatchRun(self, key, iter(requests)).outcomes()


@dataclass(slots=True, eq=False)
class _ActiveBatch:
    """A batch in progress, and the requests that wait for its replies."""

    record: BatchRecord
    requests: dict[str, list[Request]]
    refused: int = 0
    not_before: float = 0.0


class _BatchRun:
    """One call of ``complete``."""

    def __init__(self, provider: OpenAIBatchProvider, key: str | None, requests: Iterator[Request]) -> None:
        self._provider, self._key, self._requests = provider, key, requests
        self._records = BatchRecords(provider.keep)
        self._again: deque[Request] = deque()
        self._unaffordable: list[tuple[Request, Outcome]] = []
        self._attempts = Counter[str]()
        self._active: list[_ActiveBatch] = []
        self._schema = True
        self._api: BatchApi
        # Batches of an earlier run are collected once all requests that wait for them are known.
        records = self._records.find(provider.server.base_url, provider.model)
        self._earlier = [_ActiveBatch(record, {}) for record in records]
        self._batch_of = {name: batch for batch in self._earlier for name in batch.record.ids}
        self._lost = {name: tokens for record in records for name, tokens in record.lost.items()}

    def outcomes(self) -> Iterator[tuple[Request, Outcome]]:
        """Submit, wait and collect until every request has its outcome."""
        try:
            yield from self._work()
        except ProviderError as error:
            # Requests that wait for a new batch are on no record.
            for request in self._again:
                lost = self._lost.get(custom_id(self._provider.key(), request))
                if lost is not None:
                    yield request, Failure(error.message, lost)
            raise

    def _work(self) -> Iterator[tuple[Request, Outcome]]:
        provider = self._provider
        with BatchApi(provider.server, self._key, provider.retry_policy) as self._api:
            while True:
                self._fill()
                while self._unaffordable:
                    yield self._unaffordable.pop()
                if not self._active:
                    return
                ended = [(batch, state) for batch in [*self._active] if (state := self._poll(batch)) is not None]
                for batch, state in ended:
                    self._active.remove(batch)
                    yield from self._collect(batch, state)
                if not ended:
                    time.sleep(provider.poll_interval)

    def _fill(self) -> None:
        """Start new batches while there is capacity and there are requests."""
        provider, source = self._provider, self._source()
        while len(self._active) < provider.concurrency:
            with tempfile.TemporaryDirectory(dir=provider.keep, prefix=".input-") as folder:
                path = Path(folder) / "input.jsonl"
                written = write_batch_file(
                    path,
                    source,
                    server=provider.server,
                    model=provider.model,
                    key=provider.key(),
                    schema=self._schema,
                    adaptation=provider.adaptation,
                    extra=provider.extra_body,
                    max_requests=provider.batch_size,
                    max_bytes=provider.batch_bytes,
                )
                if written.left is not None:
                    self._again.appendleft(written.left)
                if not written.requests:
                    break
                file_id = self._upload(path, written.requests)
            lost = {name: self._lost.get(name, Tokens()) for name in written.requests}
            record = self._records.new(provider.server.base_url, provider.model, file_id, lost, provider.adaptation)
            batch = _ActiveBatch(record, dict(written.requests))
            self._batch_of.update(dict.fromkeys(record.ids, batch))
            self._start(batch, look_up=False)
        else:
            return
        self._resume()

    def _upload(self, path: Path, requests: Mapping[str, list[Request]]) -> str:
        try:
            return self._api.upload(path)
        except ProviderError:
            self._again += _flat(requests)
            raise

    def _resume(self) -> None:
        """Resume the batches of an earlier run that requests wait for; all requests are known now."""
        for batch in [batch for batch in self._earlier if batch.requests]:
            self._earlier.remove(batch)
            batch_id = batch.record.batch_id or self._api.find(batch.record.file_id)
            if batch_id:
                batch.record = batch.record.with_batch(batch_id)
                self._records.save(batch.record)
                self._active.append(batch)
            else:
                # The earlier run ended before the batch was created.
                self._forget(batch)
                self._records.remove(batch.record)
                self._again += _flat(batch.requests)
        if self._again:
            self._fill()

    def _source(self) -> Iterator[Request]:
        """Requests for new batches; one that is in a batch already waits for that batch."""
        key = self._provider.key()
        while True:
            request = self._again.popleft() if self._again else next(self._requests, None)
            if request is None:
                return
            name = custom_id(key, request)
            batch = self._batch_of.get(name)
            if batch is None:
                if self._is_affordable(name, request):
                    yield request
            else:
                batch.requests.setdefault(name, []).append(request)

    def _is_affordable(self, name: str, request: Request) -> bool:
        """Whether the cost limit allows a reply as long as reasoning needs; if not, the request fails."""
        lost, maximum = self._lost.get(name, Tokens()), max_tokens_per_attempt(request, self._provider.adaptation)
        if maximum.completion == request.parameters.max_tokens or request.may_repeat(lost, maximum):
            return True
        reason = f"the cost limit allows no reply of {maximum.completion} tokens, which reasoning needs"
        self._unaffordable.append((request, Failure(reason, lost, "cost limit", adaptation=self._provider.adaptation)))
        return False

    def _start(self, batch: _ActiveBatch, *, look_up: bool) -> None:
        batch.record = batch.record.with_batch(self._api.create(batch.record.file_id, look_up=look_up))
        self._records.save(batch.record)
        self._active.append(batch)

    def _poll(self, batch: _ActiveBatch) -> BatchState | None:
        """The state of a batch that has ended, else None; one refused for lack of capacity is created again."""
        if time.monotonic() < batch.not_before:
            return None
        if not batch.record.batch_id:
            self._active.remove(batch)
            self._start(batch, look_up=True)
        state = self._api.poll(batch.record.batch_id, self._records.path(batch.record))
        if state.is_queue_full and batch.refused < _QUEUE_ATTEMPTS:
            wait = min(self._provider.poll_interval * 2**batch.refused, _LONGEST_QUEUE_WAIT)
            batch.refused += 1
            batch.not_before = time.monotonic() + wait
            batch.record = batch.record.with_batch("")
            self._records.save(batch.record)
            return None
        return state if state.has_ended else None

    def _collect(self, batch: _ActiveBatch, state: BatchState) -> Iterator[tuple[Request, Outcome]]:
        """Yield replies and final failures, and queue the other requests for new batches."""
        if state.status == "failed":
            # It was refused before any of its requests ran.
            self._forget(batch)
            self._records.remove(batch.record)
            self._again += _flat(batch.requests)
            raise FatalProviderError(
                f"{self._provider.server.host} refused a batch: {state.reason}", remedy=state.remedy
            )
        answers = self._api.results(state.batch_id, self._records.path(batch.record))
        missing = ResponseProblem("again", f"the batch ended as {state.status} before this request")
        end: ResponseProblem | None = None
        again: list[tuple[str, list[Request], ResponseProblem]] = []
        for name, requests in batch.requests.items():
            outcome = self._outcome(batch, name, answers.get(name, missing))
            if isinstance(outcome, ResponseProblem):
                end = outcome if outcome.action == "stop" else end
                again.append((name, requests, outcome))
                continue
            for request in requests:
                yield request, outcome
        if state.status == "cancelled" and again and end is None:
            reason = f"the batch {printable(state.batch_id, 80)!r} was cancelled"
            end = ResponseProblem("stop", reason, remedy="Run the same command again to request the rest")
        # All others are settled, so what is left of a cost limit is known now.
        for name, requests, problem in again:
            lost = self._lost.get(name, Tokens())
            maximum = max_tokens_per_attempt(requests[0], self._provider.adaptation)
            if end is not None or not problem.billed or requests[0].may_repeat(lost, maximum):
                self._again += requests
            else:
                reason = f"{problem.reason}; the cost limit allows no further attempt"
                failure = problem.failure(reason, lost, batch.record.adaptation)
                yield from ((request, failure) for request in requests)
        self._forget(batch)
        if end is not None:
            raise FatalProviderError(end.reason, remedy=end.remedy)

    def _outcome(self, batch: _ActiveBatch, name: str, answer: Reply | ResponseProblem) -> Outcome | ResponseProblem:
        """The outcome of a request; a problem if it is to be repeated, or if the run ends."""
        request, adaptation = batch.requests[name][0], batch.record.adaptation
        lost = self._lost.get(name, Tokens())
        if isinstance(answer, Reply):
            return replace(answer, lost=lost, adaptation=adaptation)
        if answer.billed:
            lost = self._lost[name] = lost + answer.lost(request, adaptation)
        if self._adapts(request, answer, adaptation):
            return replace(answer, action="again")
        self._attempts[name] += 1
        attempts = self._attempts[name]
        if refuses_schema(request, answer) and attempts == 1 < self._provider.attempts:
            # The reply is validated in any case, so a list can be requested without a schema.
            self._schema = False
            return ResponseProblem("again", answer.reason)
        if answer.action == "stop" or (answer.action == "again" and attempts < self._provider.attempts):
            return answer
        reason = f"{answer.reason} ({attempts} attempts)" if attempts > 1 else answer.reason
        return answer.failure(reason, lost, adaptation)

    def _adapts(self, request: Request, answer: ResponseProblem, adaptation: Adaptation) -> bool:
        """Whether the request is to be put into another batch in another form."""
        provider = self._provider
        body = provider.server.chat_body(provider.model, request, schema=self._schema, adaptation=adaptation)
        change = adapt_to_refusal(adaptation, answer, body, provider.model)
        if change is None and answer.is_starved:
            change = adapt_to_reasoning(adaptation, adaptation.applied_to(request.parameters).max_tokens)
        if change is None:
            return False
        apply_change(provider, change)
        return True

    def _forget(self, batch: _ActiveBatch) -> None:
        """Forget a collected batch; its record stays if another run may still wait for some of its replies."""
        for name in batch.record.ids:
            self._batch_of.pop(name, None)
        if len(batch.requests) == len(batch.record.ids):
            self._records.remove(batch.record)


def _flat(requests: Mapping[str, list[Request]]) -> list[Request]:
    return [request for equal in requests.values() for request in equal]
