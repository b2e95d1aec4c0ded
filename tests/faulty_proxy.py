"""A proxy before a bucket server that breaks answers: refusals, connections that end in the middle, short bodies."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from web import reply, serve_on_loopback

REFUSALS = {"SlowDown": 503, "InternalError": 500, "AccessDenied": 403, "ExpiredToken": 400}


@dataclass
class Faults:
    """Which requests go wrong, and which there were.

    Args:
        choose: given method and path, it names a fault: a key of ``REFUSALS``, "cut" (the connection ends within the
            body), "drop" (before the answer, which was carried out), "short" (a part of the body as if it were all of
            it), "slow", or "" for none.
    """

    choose: Callable[[str, str], str] = lambda method, path: ""
    requests: list[str] = field(default_factory=list)
    address: str = ""

    def first(self, fault: str, times: int, method: str, part: str) -> None:
        """Let the first requests of a method whose path contains ``part`` go wrong."""
        left = [times]

        def choose(of: str, path: str) -> str:
            if of != method or part not in path or not left[0]:
                return ""
            left[0] -= 1
            return fault

        self.choose = choose


@contextmanager
def breaking(server: str) -> Iterator[Faults]:
    """A proxy before the server at an address."""
    faults = Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def answer(self) -> None:
            faults.requests.append(f"{self.command} {self.path}")
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faults.choose(self.command, self.path)
            if fault in REFUSALS:
                body = f"<Error><Code>{fault}</Code><Message>secret words</Message></Error>".encode()
                reply(self, REFUSALS[fault], body, Content_Type="application/xml")
                return
            if fault == "slow":
                time.sleep(0.3)
            upstream = http.client.HTTPConnection(server.removeprefix("http://"))
            upstream.request(self.command, self.path, data, dict(self.headers))
            answer = upstream.getresponse()
            body = answer.read()
            upstream.close()
            self.close_connection = fault in ("cut", "drop")
            if fault == "drop":
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                    self.send_header(name, value)
            shown = body[: len(body) // 2] if fault in ("cut", "short") else body
            length = len(shown) if fault == "short" else len(body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(shown)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

    with serve_on_loopback(Handler) as address:
        faults.address = address
        yield faults
