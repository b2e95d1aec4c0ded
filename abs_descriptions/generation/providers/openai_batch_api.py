"""The five calls of the OpenAI Batch API that a batch needs, each repeated until it is answered or patience is spent.

Only one of them costs money, the creation of a batch. It is never simply repeated: where it is not known whether a
batch was created, the server is asked for a batch of that input file first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, TypeVar

from abs_core.canonical import canonical_json
from abs_core.errors import BackendError, FatalBackendError
from abs_core.extras import require
from abs_core.files import atomic_write
from abs_core.text import printable
from abs_descriptions.generation.providers.base import Reply, Request, request_digest
from abs_descriptions.generation.providers.openai_server import OpenAIServer
from abs_descriptions.generation.providers.response_validation import (
    ValidatedResponse,
    classify_status,
    hide,
    is_quota,
    validate_answer,
)
from abs_descriptions.generation.providers.retry import RetryPolicy, RetryState

__all__ = [
    "CHAT_URL",
    "MOST_BYTES",
    "MOST_REQUESTS",
    "BatchApi",
    "BatchState",
    "WrittenBatch",
    "custom_id",
    "read_batch_results",
    "write_batch_file",
]


#: Limits of one file, as OpenAI publishes them.
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000


CHAT_URL = "/v1/chat/completions"


# Digits of a digest; servers are known to take ids of up to 64 characters.
_ID_LENGTH = 40


@dataclass(frozen=True, slots=True)
class WrittenBatch:
    """What stands in an input file.

    Args:
        requests: by custom id, in the order of the file; equal requests share one line.
        left: the request that no longer fitted, or None where all were written.
    """

    requests: Mapping[str, list[Request]]
    left: Request | None


def custom_id(key: Mapping[str, Any], request: Request) -> str:
    """The name of a request in the files of a batch: 40 hexadecimal digits of ``request_digest``."""
    return request_digest(key, request).removeprefix("sha256:")[:_ID_LENGTH]


def write_batch_file(
    path: Path,
    requests: Iterable[Request],
    *,
    server: OpenAIServer,
    model: str,
    key: Mapping[str, Any],
    schema: bool = True,
    most_requests: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
) -> WrittenBatch:
    """Write requests into an input file until it is full or none is left; not more than one too many is taken.

    Args:
        path: appears only when it is complete.
        server: says how the body of a request is spelled.
        model: as the server calls it.
        key: the backend's, see ``custom_id``.
        schema: see ``OpenAIServer.chat_body``.
        most_requests, most_bytes: of the file. A first request that is larger by itself is written all the same.

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
            line = _line(name, server.chat_body(model, request, schema=schema))
            if written and (len(written) >= most_requests or size + len(line) > most_bytes):
                return WrittenBatch(written, request)
            stream.write(line)
            size += len(line)
            written[name] = [request]
    return WrittenBatch(written, None)


def _line(name: str, body: Mapping[str, Any]) -> bytes:
    record = {"custom_id": name, "method": "POST", "url": CHAT_URL, "body": dict(body)}
    return (canonical_json(record) + "\n").encode("utf-8", "replace")


def read_batch_results(
    lines: Iterable[bytes], host: str, secret: str | None = None
) -> Iterator[tuple[str, Reply | ValidatedResponse]]:
    """Custom ids with what the results of an output or error file say.

    Args:
        lines: of the file; empty ones are passed over.
        host: the server, for messages.
        secret: the key; it is blotted out should the server repeat it.

    Raises:
        ValueError: a line that is no result: the file is damaged, or is another.
    """
    for line in lines:
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name = record.get("custom_id") if isinstance(record, dict) else None
            if not isinstance(name, str):
                raise ValueError("a line without a custom id")
            judged = _judge(record, host, secret)
        except RecursionError:
            raise ValueError("a line that is nested too deeply") from None
        yield name, judged


def _judge(record: Mapping[str, Any], host: str, secret: str | None) -> Reply | ValidatedResponse:
    response = record.get("response")
    if isinstance(response, dict):
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            return validate_answer(_objects(body), secret)
        if isinstance(status, int):
            return classify_status(status, {}, body, host, secret)
    error = record.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return ValidatedResponse(
        "again", f"the batch gave no reply ({code})" if isinstance(code, str) else "the batch gave no reply"
    )


def _objects(value: Any) -> Any:
    """JSON values with attributes instead of keys, as the client's own objects have them."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _objects(item) for name, item in value.items()})
    return [_objects(item) for item in value] if isinstance(value, list) else value


_T = TypeVar("_T")


_ENDED = frozenset(("completed", "failed", "expired", "cancelled"))


_QUEUE_FULL = "token_limit_exceeded"


# How many batches are looked through for one of a given input file, the newest first.
_LOOKED_THROUGH = 5000


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as the server tells of it.

    Args:
        batch_id: its name.
        status: "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled".
        files: ids of the output and the error file, as far as there are any.
        completed: requests that got a reply.
        why, remedy: of a batch that failed.
        is_queue_full: it failed because too much waits already.
    """

    batch_id: str
    status: str
    files: tuple[str, ...]
    completed: int
    why: str
    remedy: str
    is_queue_full: bool

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in _ENDED


class BatchApi:
    """A connection to the files and batches of a server; a context manager.

    Every method raises ``BackendError`` where the server does not answer in spite of all patience, and
    ``FatalBackendError`` where asking again cannot mend it.

    Args:
        server: where.
        key: from ``OpenAIServer.read_key``.
        patience: when to repeat a call.
    """

    def __init__(self, server: OpenAIServer, key: str | None, patience: RetryPolicy) -> None:
        openai = require("openai")
        self._faults = (openai.OpenAIError, TimeoutError, ValueError, RecursionError)
        self._server, self._key, self._patience = server, key, patience
        self._client = server.open(key, patience.timeout)
        self._reached = False

    def __enter__(self) -> BatchApi:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def upload(self, path: Path) -> str:
        """Upload an input file; its id at the server."""
        gone = (f"{self._server.host} has no Batch API", "Use the backend 'openai' for this server")
        return self._call(lambda: _text(self._client.files.create(file=path, purpose="batch"), "id"), gone)

    def create(self, file_id: str, *, look_up: bool) -> str:
        """Create the batch of an input file; its id.

        Args:
            look_up: it may have been created before, without our knowing its id.
        """
        known = not look_up

        def create() -> str:
            nonlocal known
            found = None if known else self._search(file_id)
            # Should this attempt fail, the batch may be there all the same.
            known = False
            return found or _text(
                self._client.batches.create(input_file_id=file_id, endpoint=CHAT_URL, completion_window="24h"), "id"
            )

        return self._call(create)

    def find(self, file_id: str) -> str | None:
        """The batch of an input file, or None where there is none that did not fail."""
        return self._call(lambda: self._search(file_id))

    def look(self, batch_id: str, forget: Path) -> BatchState:
        """The state of a batch.

        Args:
            forget: the record to delete, for messages.
        """
        return self._call(lambda: self._state(batch_id), self._gone(batch_id, forget))

    def results(self, batch_id: str, forget: Path) -> dict[str, Reply | ValidatedResponse]:
        """The results of a batch that has ended, by custom id; a reply counts more than an error.

        The whole of its files is held in memory. Files that are damaged or not yet complete are fetched again.
        """
        return self._call(lambda: self._download(batch_id), self._gone(batch_id, forget))

    def _gone(self, batch_id: str, forget: Path) -> tuple[str, str]:
        return (
            f"{self._server.host} does not know the batch {printable(batch_id, 80)!r} or its files any more",
            f"Delete {str(forget)!r} to ask for its replies, and pay for them, once more",
        )

    def _search(self, file_id: str) -> str | None:
        for batch in islice(self._client.batches.list(limit=100), _LOOKED_THROUGH):
            if getattr(batch, "input_file_id", None) == file_id and getattr(batch, "status", None) != "failed":
                return _text(batch, "id")
        return None

    def _state(self, batch_id: str) -> BatchState:
        batch = self._client.batches.retrieve(batch_id)
        files = (getattr(batch, name, None) for name in ("output_file_id", "error_file_id"))
        completed = getattr(getattr(batch, "request_counts", None), "completed", None)
        data = getattr(getattr(batch, "errors", None), "data", None)
        errors = [(getattr(one, "code", None), getattr(one, "message", None)) for one in data or ()]
        codes = {code for code, _ in errors if isinstance(code, str)}
        said = next((message for _, message in errors if isinstance(message, str)), "no reason given")
        status = _text(batch, "status")
        return BatchState(
            batch_id=batch_id,
            status=status,
            files=tuple(one for one in files if isinstance(one, str) and one),
            completed=completed if isinstance(completed, int) else 0,
            why=printable(hide(said, self._key), 200),
            remedy="Add credit, or use another server" if is_quota(codes) else "Check the model; try smaller batches",
            is_queue_full=status == "failed" and _QUEUE_FULL in codes,
        )

    def _download(self, batch_id: str) -> dict[str, Reply | ValidatedResponse]:
        state = self._state(batch_id)
        found: dict[str, Reply | ValidatedResponse] = {}
        for file_id in state.files:
            lines = self._client.files.content(file_id).content.split(b"\n")
            for name, answer in read_batch_results(lines, self._server.host, self._key):
                if not isinstance(found.get(name), Reply):
                    found[name] = answer
        if len(found) < state.completed:
            raise ValueError("fewer results than the batch has")
        return found

    def _call(self, act: Callable[[], _T], gone: tuple[str, str] | None = None) -> _T:
        """The result of ``act``; ``gone`` is reason and remedy where the server has no such thing."""
        tries = RetryState(self._patience, time.monotonic())
        while True:
            try:
                result = act()
            except self._faults as error:
                verdict = self._server.judge_error(error, self._key, reached=self._reached)
            else:
                self._reached = True
                return result
            self._reached = self._reached or verdict.status > 0
            verdict = self._patience.cap(verdict, self._server.host)
            if gone is not None and verdict.status in (404, 405):
                raise FatalBackendError(gone[0], remedy=gone[1])
            if verdict.action != "again":
                raise FatalBackendError(verdict.reason, remedy=verdict.remedy or "Check the model and the server")
            wait = tries.wait_after(verdict, time.monotonic())
            if wait is None:
                raise BackendError(
                    f"{self._server.host} does not serve the batch: {tries.reason(verdict)}",
                    remedy="Run the same command again later; batches that were submitted are found again",
                )
            time.sleep(wait)


def _text(answer: Any, name: str) -> str:
    value = getattr(answer, name, None)
    if not isinstance(value, str) or not value:
        raise ValueError(f"an answer without {name}")
    return value
