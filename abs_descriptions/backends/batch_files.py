"""The OpenAI Batch file format: JSON Lines of requests in, JSON Lines of results out, matched by ``custom_id``.

    in   {"custom_id": "...", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
    out  {"id": "...", "custom_id": "...", "response": {"status_code": 200, "body": {...}}, "error": null}

Source: OpenAI's Batch guide. A file holds at most 50,000 requests and 200 MB, and one model. ``vllm run-batch`` reads
and writes the same format. Results may be in any order, and one file may hold replies and errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from abs_core.canonical import canonical_json
from abs_core.files import atomic_write
from abs_descriptions.backends.base import Reply, Request, request_digest
from abs_descriptions.backends.openai_server import OpenAIServer
from abs_descriptions.backends.verdicts import Verdict, judge_answer, judge_status

__all__ = [
    "CHAT_URL",
    "MOST_BYTES",
    "MOST_REQUESTS",
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
) -> Iterator[tuple[str, Reply | Verdict]]:
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


def _judge(record: Mapping[str, Any], host: str, secret: str | None) -> Reply | Verdict:
    response = record.get("response")
    if isinstance(response, dict):
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            return judge_answer(_objects(body), secret)
        if isinstance(status, int):
            return judge_status(status, {}, body, host, secret)
    error = record.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return Verdict("again", f"the batch gave no reply ({code})" if isinstance(code, str) else "the batch gave no reply")


def _objects(value: Any) -> Any:
    """JSON values with attributes instead of keys, as the client's own objects have them."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: _objects(item) for name, item in value.items()})
    return [_objects(item) for item in value] if isinstance(value, list) else value
