"""The five calls of the OpenAI Batch API that a batch needs, each repeated as the retry policy says.

Only the creation of a batch costs money. It is never simply repeated: if it is unknown whether a batch was created, the
server's batches are searched for one of that input file first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from abs_core.canonical import canonical_json
from abs_core.errors import FatalProviderError, ProviderError
from abs_core.extras import require
from abs_core.files import atomic_write
from abs_core.text import printable
from abs_descriptions.generation.providers.base import NO_ADAPTATION, Adaptation, Reply, Request, request_digest
from abs_descriptions.generation.providers.error_responses import ResponseProblem, classify_status, is_quota_code
from abs_descriptions.generation.providers.error_words import redact_words
from abs_descriptions.generation.providers.openai_server import OpenAIServer
from abs_descriptions.generation.providers.response_validation import validate_completion
from abs_descriptions.generation.providers.retry import RetryPolicy, RetryState

__all__ = [
    "MAX_BYTES",
    "MAX_REQUESTS",
    "BatchApi",
    "BatchState",
    "WrittenBatch",
    "custom_id",
    "read_batch_results",
    "write_batch_file",
]

#: Limits of one file, as published by OpenAI.
MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000
_CHAT_URL = "/v1/chat/completions"

# Digits of a digest; servers accept ids of up to 64 characters.
_ID_LENGTH = 40


@dataclass(frozen=True, slots=True)
class WrittenBatch:
    """The content of an input file.

    Args:
        requests: custom id -> equal requests, which share one line, in the order of the file.
        left: the request that did not fit any more; None if all were written.
    """

    requests: Mapping[str, list[Request]]
    left: Request | None


def custom_id(key: Mapping[str, Any], request: Request) -> str:
    """The id of a request in the files of a batch: 40 hexadecimal digits of ``request_digest``."""
    return request_digest(key, request).removeprefix("sha256:")[:_ID_LENGTH]


def write_batch_file(
    path: Path,
    requests: Iterable[Request],
    *,
    server: OpenAIServer,
    model: str,
    key: Mapping[str, Any],
    schema: bool = True,
    adaptation: Adaptation = NO_ADAPTATION,
    extra: Mapping[str, Any] = MappingProxyType({}),
    max_requests: int = MAX_REQUESTS,
    max_bytes: int = MAX_BYTES,
) -> WrittenBatch:
    """Write requests into an input file until it is full or none is left; takes at most one request too many.

    Args:
        path: appears only when it is complete.
        requests: taken one by one.
        server: makes the body of a request.
        model: as the server calls it.
        key: of the provider, see ``custom_id``.
        schema, adaptation, extra: see ``OpenAIServer.chat_body``.
        max_requests, max_bytes: of the file. A first request larger than that is written all the same.

    Raises:
        StorageError: the file cannot be written.
    """
    written: dict[str, list[Request]] = {}
    size = 0
    with atomic_write(path) as stream:
        for request in requests:
            name = custom_id(key, request)
            if name in written:
                written[name].append(request)
                continue
            line = _line(name, server.chat_body(model, request, schema=schema, adaptation=adaptation, extra=extra))
            if written and (len(written) >= max_requests or size + len(line) > max_bytes):
                return WrittenBatch(written, request)
            stream.write(line)
            size += len(line)
            written[name] = [request]
    return WrittenBatch(written, None)


def _line(name: str, body: Mapping[str, Any]) -> bytes:
    record = {"custom_id": name, "method": "POST", "url": _CHAT_URL, "body": dict(body)}
    return (canonical_json(record) + "\n").encode("utf-8", "replace")


def read_batch_results(
    lines: Iterable[bytes], host: str, secret: str | None = None
) -> Iterator[tuple[str, Reply | ResponseProblem]]:
    """Custom ids with their results in an output or error file.

    Args:
        lines: of the file; empty ones are skipped.
        host: the server, for messages.
        secret: the key; it is redacted if the server repeats it.

    Raises:
        ValueError: a line that is not a result: a damaged file, or another one.
    """
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name = record.get("custom_id") if isinstance(record, dict) else None
            if not isinstance(name, str):
                raise ValueError("a line without a custom id")
            result = _result(record, host, secret)
        except RecursionError:
            raise ValueError("a line nested too deeply") from None
        yield name, result


def _result(record: Mapping[str, Any], host: str, secret: str | None) -> Reply | ResponseProblem:
    response = record.get("response")
    if isinstance(response, dict):
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            return validate_completion(body, host, secret)
        if isinstance(status, int):
            return classify_status(status, {}, body, host, secret)
    error = record.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    reason = f"the batch gave no reply ({code})" if isinstance(code, str) else "the batch gave no reply"
    return ResponseProblem("again", reason, kind="no reply in the batch")


_T = TypeVar("_T")
_ENDED = frozenset(("completed", "failed", "expired", "cancelled"))
_QUEUE_FULL = "token_limit_exceeded"

# How many batches are searched for one of a given input file, the newest first.
_MAX_SEARCHED = 5000


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as the server reports it.

    Args:
        batch_id: its id.
        status: "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled".
        files: ids of the output and the error file, if there are any.
        completed: number of requests with a reply.
        reason, remedy: of a batch that failed.
        is_queue_full: it failed because too many tokens are enqueued already.
    """

    batch_id: str
    status: str
    files: tuple[str, ...]
    completed: int
    reason: str
    remedy: str
    is_queue_full: bool

    @property
    def has_ended(self) -> bool:
        """Whether it has reached its final status."""
        return self.status in _ENDED


class BatchApi:
    """A connection to the files and batches of a server; a context manager.

    Every method raises ``ProviderError`` if the server does not answer after all retries, and ``FatalProviderError`` if
    a retry is no remedy.

    Args:
        server: where to connect to.
        key: from ``OpenAIServer.read_key``.
        retry_policy: when to repeat a failed call.
    """

    def __init__(self, server: OpenAIServer, key: str | None, retry_policy: RetryPolicy) -> None:
        openai = require("openai")
        self._client_errors = (openai.OpenAIError, TimeoutError, ValueError, RecursionError)
        self._server, self._key, self._retry_policy = server, key, retry_policy
        self._client = server.open(key, retry_policy.timeout)
        self._reached = False

    def __enter__(self) -> BatchApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def upload(self, path: Path) -> str:
        """Upload an input file; its id at the server."""
        no_api = (f"{self._server.host} has no Batch API", "Use the backend 'openai' for this server")
        return self._call(lambda: _text(self._client.files.create(file=path, purpose="batch"), "id"), no_api)

    def create(self, file_id: str, *, look_up: bool) -> str:
        """Create the batch of an input file; its id.

        Args:
            file_id: the server's id of the input file.
            look_up: it may have been created before, so search for it first.
        """
        must_search = look_up

        def create() -> str:
            nonlocal must_search
            existing = self._search(file_id) if must_search else None
            # If this attempt fails, the batch may have been created all the same.
            must_search = True
            return existing or _text(
                self._client.batches.create(input_file_id=file_id, endpoint=_CHAT_URL, completion_window="24h"), "id"
            )

        return self._call(create)

    def find(self, file_id: str) -> str | None:
        """The id of the batch of an input file; None if there is none, or only a failed one."""
        return self._call(lambda: self._search(file_id))

    def poll(self, batch_id: str, record: Path) -> BatchState:
        """The state of a batch.

        Args:
            batch_id: the server's id.
            record: the record of the batch, for messages.
        """
        return self._call(lambda: self._state(batch_id), self._unknown_batch(batch_id, record))

    def results(self, batch_id: str, record: Path) -> dict[str, Reply | ResponseProblem]:
        """The results of a batch that has ended, by custom id; a reply takes precedence over an error.

        Its files are held in memory. Files that are damaged or not yet complete are downloaded again.
        """
        return self._call(lambda: self._download(batch_id), self._unknown_batch(batch_id, record))

    def _unknown_batch(self, batch_id: str, record: Path) -> tuple[str, str]:
        return (
            f"{self._server.host} no longer has the batch {printable(batch_id, 80)!r} or its files",
            f"Delete {str(record)!r} to send its requests, and pay for them, once more",
        )

    def _search(self, file_id: str) -> str | None:
        for batch in islice(self._client.batches.list(limit=100), _MAX_SEARCHED):
            if getattr(batch, "input_file_id", None) == file_id and getattr(batch, "status", None) != "failed":
                return _text(batch, "id")
        return None

    def _state(self, batch_id: str) -> BatchState:
        batch = self._client.batches.retrieve(batch_id)
        files = (getattr(batch, name, None) for name in ("output_file_id", "error_file_id"))
        completed = getattr(getattr(batch, "request_counts", None), "completed", None)
        data = getattr(getattr(batch, "errors", None), "data", None)
        errors = [(getattr(error, "code", None), getattr(error, "message", None)) for error in data or ()]
        codes = {code for code, _ in errors if isinstance(code, str)}
        reason = next((message for _, message in errors if isinstance(message, str)), "no reason given")
        status = _text(batch, "status")
        return BatchState(
            batch_id=batch_id,
            status=status,
            files=tuple(file_id for file_id in files if isinstance(file_id, str) and file_id),
            completed=completed if isinstance(completed, int) else 0,
            reason=printable(redact_words(reason, self._key), 200),
            remedy="Add credit, or use another server"
            if is_quota_code(codes)
            else "Check the model; try smaller batches",
            is_queue_full=status == "failed" and _QUEUE_FULL in codes,
        )

    def _download(self, batch_id: str) -> dict[str, Reply | ResponseProblem]:
        state = self._state(batch_id)
        results: dict[str, Reply | ResponseProblem] = {}
        for file_id in state.files:
            lines = self._client.files.content(file_id).content.split(b"\n")
            for name, answer in read_batch_results(lines, self._server.host, self._key):
                if not isinstance(results.get(name), Reply):
                    results[name] = answer
        if len(results) < state.completed:
            raise ValueError("fewer results than the batch has")
        return results

    def _call(self, operation: Callable[[], _T], not_found: tuple[str, str] | None = None) -> _T:
        """The result of ``operation``, with retries; ``not_found`` is reason and remedy for the status 404 or 405."""
        state = RetryState(self._retry_policy, time.monotonic())
        while True:
            try:
                result = operation()
            except self._client_errors as error:
                problem = self._server.classify_error(error, self._key, reached=self._reached)
            else:
                self._reached = True
                return result
            self._reached = self._reached or problem.status > 0
            problem = self._retry_policy.cap(problem, self._server.host)
            if not_found is not None and problem.status in (404, 405):
                raise FatalProviderError(not_found[0], remedy=not_found[1])
            if problem.action != "again":
                raise FatalProviderError(problem.reason, remedy=problem.remedy or "Check the model and the server")
            wait = state.wait_after(problem, time.monotonic())
            if wait is None:
                raise ProviderError(
                    f"{self._server.host} does not serve the batch: {state.reason(problem)}",
                    remedy="Run the same command again later; it finds the submitted batches",
                )
            time.sleep(wait)


def _text(answer: Any, name: str) -> str:
    value = getattr(answer, name, None)
    if not isinstance(value, str) or not value:
        raise ValueError(f"an answer without {name}")
    return value
