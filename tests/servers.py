"""Servers on loopback for tests: a chat server that follows a script or passes requests on, and one with the Batch API.

``ChatServer`` says what a test tells it to say. With another server behind it, it is a fault proxy: what ``behave``
answers with ``PASS`` goes there and back untouched. ``BatchServer`` keeps files and batches as OpenAI's does and has
the requests of a batch answered by whatever it is given, a real model for example.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from web import serve_on_loopback

from abs_descriptions.generation.providers.base import Message, Parameters, Reply, Request
from abs_descriptions.generation.providers.transformers_local import TransformersProvider


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Args:
        headers: over the usual ones; a wrong content-length makes a cut body.
        delay: seconds before the first byte.
        drop: close the connection without a byte.
    """

    status: int = 200
    raw: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


#: A result of ``ChatServer.behave``: pass the request on.
PASS = Answer(status=0)


@dataclass(frozen=True)
class Seen:
    """One request as a server saw it."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    time: float

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw))


def completion(text: Any, finish: str | None = "stop", **more: Any) -> Answer:
    """A chat completion of 7 and 3 tokens."""
    return Answer(200, json.dumps(completion_body(text, finish, **more)).encode())


def completion_body(text: Any, finish: str | None = "stop", prompt: int = 7, drawn: int = 3, **more: Any) -> Any:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **more}}
    usage = {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def error(status: int, code: str = "", message: str = "no", **headers: str) -> Answer:
    """An error as OpenAI spells it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"error": {"message": message, "type": code, "code": code}}).encode(), named)


@dataclass
class Server:
    """What all servers here have in common."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def answer(self, number: int, seen: Seen) -> Answer:
        """The answer to the request with this number."""
        raise NotImplementedError


@dataclass
class ChatServer(Server):
    """``behave(number, body)`` says what is answered: the text of a reply, an ``Answer``, or ``PASS``."""

    behave: Callable[[int, dict[str, Any]], str | Answer] = lambda number, body: "ok"
    behind: str = ""
    """Base URL of the server that requests are passed on to."""

    def answer(self, number: int, seen: Seen) -> Answer:
        answer = self.behave(number, seen.body)
        if isinstance(answer, str):
            return completion(answer)
        return self._pass_on(seen) if answer is PASS else answer

    def _pass_on(self, seen: Seen) -> Answer:
        there = urlsplit(self.behind)
        connection = http.client.HTTPConnection(there.hostname or "", there.port or 80, timeout=120)
        try:
            kept = {name: seen.headers[name] for name in ("content-type", "accept") if name in seen.headers}
            connection.request(seen.method, there.path + seen.path.removeprefix("/v1"), seen.raw, kept)
            came = connection.getresponse()
            return Answer(came.status, came.read(), {"content-type": came.headers["content-type"]})
        finally:
            connection.close()


_S = TypeVar("_S", bound=Server)


@contextmanager
def serving(state: _S, encryption: ssl.SSLContext | None = None) -> Iterator[_S]:
    """Run a server on a free port; its ``url`` ends with ``/v1``."""
    with serve_on_loopback(_handler(state), encryption) as address:
        state.url = f"{address}/v1"
        yield state


def _handler(state: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"] or 0)
            raw = self.rfile.read(length)
            if len(raw) < length:  # the client was killed while it sent: nothing that a server would bill
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            with state.lock:
                number = len(state.seen)
                seen = Seen(self.command, self.path, headers, raw, time.monotonic())
                state.seen.append(seen)
                state.under_way += 1
                state.most_under_way = max(state.most_under_way, state.under_way)
            try:
                self.send(state.answer(number, seen))
            finally:
                with state.lock:
                    state.under_way -= 1

        do_GET = do_POST  # noqa: N815

        def send(self, answer: Answer) -> None:
            time.sleep(answer.delay)
            if answer.drop:
                self.close_connection = True
                return
            self.send_response(answer.status)
            length = str(len(answer.raw))
            given = {"content-type": "application/json", "content-length": length, **answer.headers}
            for name, value in given.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # a client that did not wait
                self.end_headers()
                self.wfile.write(answer.raw)
            self.close_connection = self.close_connection or given["content-length"] != length

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    return Handler


Bodies = Sequence[dict[str, Any]]
Executed = list[tuple[int, Any]]


@dataclass
class BatchServer(Server):
    """Files and batches.

    Args:
        execute: bodies of requests to statuses and bodies of answers.
        fate: the number of a batch to how it ends: "completed", "cancelled" or "expired" after half of its requests,
            or "failed: CODE".
        fault: answers instead of the server where it does not return None; the request has no effect then.
        lost: whether the answer to this request gets lost, though it had its effect.
        looks: how often a batch is looked at before it has ended.
    """

    execute: Callable[[Bodies], Executed] = lambda bodies: [(200, completion_body("ok")) for _ in bodies]
    fate: Callable[[int], str] = lambda number: "completed"
    fault: Callable[[Seen], Answer | None] = lambda seen: None
    lost: Callable[[Seen], bool] = lambda seen: False
    looks: int = 1
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    paid: Counter[str] = field(default_factory=Counter)
    """How often each custom id was answered with 200."""

    def answer(self, number: int, seen: Seen) -> Answer:
        with self.lock:
            answer = self.fault(seen) or self._route(seen)
            return Answer(drop=True) if self.lost(seen) else answer

    def _route(self, seen: Seen) -> Answer:
        path = urlsplit(seen.path).path.removeprefix("/v1").strip("/").split("/")
        match (seen.method, *path):
            case ("POST", "files"):
                return self._upload(seen)
            case ("GET", "files", name, "content") if name in self.files:
                return Answer(200, self.files[name], {"content-type": "application/octet-stream"})
            case ("POST", "batches"):
                return self._create(seen.body)
            case ("GET", "batches"):
                return self._list(parse_qs(urlsplit(seen.path).query))
            case ("GET", "batches", name) if name in self.batches:
                return _json(self._look(self.batches[name]))
        return error(404, "not_found", f"no {seen.path}")

    def _upload(self, seen: Seen) -> Answer:
        head = f"Content-Type: {seen.headers['content-type']}\r\n\r\n".encode()
        parts = {part.get_param("name", header="content-disposition"): part for part in _parts(head + seen.raw)}
        if parts["purpose"].get_payload() != "batch":
            return error(400, "invalid_purpose")
        name = f"file-{len(self.files)}"
        self.files[name] = bytes(parts["file"].get_payload(decode=True))
        return _json({"id": name, "object": "file", "bytes": len(self.files[name]), "purpose": "batch"})

    def _create(self, body: dict[str, Any]) -> Answer:
        if body["input_file_id"] not in self.files or body["completion_window"] != "24h":
            return error(400, "invalid_request_error", "no such file or window")
        batch = {
            "id": f"batch_{len(self.batches)}",
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "created_at": 0,
            "status": "validating",
            "looks": 0,
            "fate": self.fate(len(self.batches)),
        }
        self.batches[batch["id"]] = batch
        return _json(batch)

    def _list(self, query: dict[str, list[str]]) -> Answer:
        newest = [*self.batches.values()][::-1]
        after = query.get("after", [""])[0]
        start = next((place + 1 for place, one in enumerate(newest) if one["id"] == after), 0)
        page = newest[start : start + 2]  # small, so that every test turns pages
        return _json({"object": "list", "data": page, "has_more": start + 2 < len(newest)})

    def _look(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looks"] += 1
        if batch["status"] not in ("validating", "in_progress"):
            return batch
        if batch["fate"].startswith("failed: "):
            code = batch["fate"].removeprefix("failed: ")
            batch |= {"status": "failed", "errors": {"object": "list", "data": [{"code": code, "message": f"{code}!"}]}}
        elif batch["looks"] <= self.looks:
            batch["status"] = "in_progress"
        else:
            self._run(batch)
        return batch

    def _run(self, batch: dict[str, Any]) -> None:
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        names = [line["custom_id"] for line in lines]
        assert len(set(names)) == len(names)
        assert all(line["url"] == batch["endpoint"] and line["method"] == "POST" for line in lines)
        count = len(lines) if batch["fate"] == "completed" else len(lines) // 2
        answers = self.execute([line["body"] for line in lines[:count]])
        good, bad = [], []
        for place, (name, (status, body)) in enumerate(zip(names, answers, strict=False)):
            response = {"status_code": status, "request_id": str(place), "body": body}
            (good if status == 200 else bad).append(
                {"id": f"r{place}", "custom_id": name, "response": response, "error": None}
            )
            self.paid[name] += status == 200
        late = {"code": f"batch_{batch['fate']}", "message": "too late"}
        bad += [{"id": "r", "custom_id": name, "response": None, "error": late} for name in names[count:]]
        for kind, records in (("output_file_id", good[::-1]), ("error_file_id", bad)):
            if records:
                batch[kind] = f"{kind}-of-{batch['id']}"
                self.files[batch[kind]] = "".join(json.dumps(record) + "\n" for record in records).encode()
        batch["status"] = batch["fate"]
        batch["request_counts"] = {"total": len(lines), "completed": len(good), "failed": len(bad)}


def _parts(raw: bytes) -> list[Any]:
    return list(message_from_bytes(raw).get_payload())


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode())


def execute_on(model: TransformersProvider) -> Callable[[Bodies], Executed]:
    """Has the requests of a batch answered by a model in this process."""

    def execute(bodies: Bodies) -> Executed:
        asked = [
            Request(
                tuple(Message(turn["role"], turn["content"]) for turn in body["messages"]),
                Parameters(body["max_tokens"], body.get("temperature"), body.get("top_p"), body.get("seed")),
                tag=place,
            )
            for place, body in enumerate(bodies)
        ]
        drawn = {request.tag: outcome for request, outcome in model.complete(asked)}
        return [_executed(drawn[place]) for place in range(len(asked))]

    return execute


def _executed(outcome: Any) -> tuple[int, Any]:
    if not isinstance(outcome, Reply):
        return 400, {"error": {"message": outcome.reason, "type": "invalid_request_error", "code": None}}
    body = completion_body(
        outcome.text, outcome.finish_reason, prompt=outcome.prompt_tokens, drawn=outcome.completion_tokens
    )
    return 200, body
