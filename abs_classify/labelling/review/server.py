"""The review page on loopback: its files, its JSON API, and pictures of the images of one folder.

Who has the address with its token may use it, and nobody else: the token becomes a cookie that scripts cannot read and
other sites cannot send; a request with another ``Host``, as a rebound DNS name makes it, or of another ``Origin`` is
refused. Pictures are asked for by the number of a row, so no path comes from outside.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.review.queue import RANDOM_SHARE, ReviewFilter
from abs_classify.labelling.review.session import MAX_ROWS, Entry, ReviewSession, StaleEntryError
from abs_classify.labelling.review.thumbnails import MAX_SIDE, ThumbnailMaker
from abs_core.errors import AbsError, ImageError, StorageError, UsageError
from abs_core.text import json_text
from abs_core.web_page import page_text_script, virtual_grid_script

__all__ = ["ReviewServer", "review_server"]

# bytes of a request's body; decisions of one request
_MAX_BODY, _MAX_ENTRIES = 1_000_000, 1000

# seconds after which a connection that says nothing is closed
_IDLE = 60.0

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves the review of one session on 127.0.0.1.

    Args:
        session: the review.
        port: to listen on; any free one if 0.

    Raises:
        StorageError: the port cannot be used.
    """

    daemon_threads = True
    allow_reuse_address = False
    request_queue_size = 64

    def __init__(self, session: ReviewSession, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self.thumbnails = ThumbnailMaker()
        self.files = _page_files()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise StorageError(
                f"cannot listen on port {port}: {(error.strerror or str(error)).lower()}",
                remedy="Give another --port, or none",
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks concerns nobody."""


@contextmanager
def review_server(
    folder: LabelFolder, reviewer: str, *, port: int = 0, random_share: float = RANDOM_SHARE
) -> Iterator[str]:
    """Serve the review of a folder for the time of the block.

    Args:
        folder: of the run.
        reviewer: who decides.
        port: to listen on; any free one if 0.
        random_share: of the places of the queue, which images drawn at random have.

    Yields:
        The address of the page, with its token.
    """
    with ReviewSession(folder, reviewer, random_share) as session, ReviewServer(session, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def _page_files() -> dict[str, tuple[str, bytes]]:
    """The files of the page that ship with this package: content type and bytes, by path."""
    shared = {"/page_text.js": page_text_script(), "/virtual_grid.js": virtual_grid_script()}
    found = {name: (f"{_TYPES['js']}; charset=utf-8", script.encode()) for name, script in shared.items()}
    for entry in files("abs_classify.labelling.review").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None and entry.name != "static_page.js":
            name = "/" if entry.name == "page.html" else f"/{entry.name}"
            found[name] = f"{kind}; charset=utf-8", entry.read_bytes()
    return found


class _RefusedRequestError(Exception):
    """A request that is answered with a status and a message."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "abs", ""
    timeout = _IDLE
    # an answer in one packet: its head alone would wait 40 ms for the browser to say that it arrived
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Nothing: the terminal is the user's."""

    def do_GET(self) -> None:
        self._answer_with(self._get)

    def do_HEAD(self) -> None:
        self._answer_with(self._get)

    def do_POST(self) -> None:
        self._answer_with(self._post)

    def _answer_with(self, method: Any) -> None:
        try:
            self._check_caller()
            method()
        except _RefusedRequestError as error:
            # a body may be waiting, which is no request
            self.close_connection |= self.command == "POST"
            self._error(error.status, str(error))
        except StaleEntryError as error:
            self._error(HTTPStatus.CONFLICT, str(error))
        except ImageError as error:
            self._send(
                str(error).encode("utf-8", "backslashreplace"), "text/plain; charset=utf-8", HTTPStatus.NOT_FOUND
            )
        except UsageError as error:
            self._error(HTTPStatus.BAD_REQUEST, str(error))
        except AbsError as error:
            self._error(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    @property
    def _server(self) -> ReviewServer:
        return cast("ReviewServer", self.server)

    def _check_caller(self) -> None:
        if self.headers.get("Host", "") not in self._server.hosts:
            raise _RefusedRequestError(HTTPStatus.FORBIDDEN, "another host")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._server.hosts}:
            raise _RefusedRequestError(HTTPStatus.FORBIDDEN, "another origin")
        if self.command == "POST" and self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise _RefusedRequestError(HTTPStatus.FORBIDDEN, "another origin")

    def _is_known(self) -> bool:
        cookie = SimpleCookie()
        with suppress(CookieError):
            cookie.load(self.headers.get("Cookie", ""))
        value = cookie.get(self._cookie_name)
        return value is not None and self._is_token(value.value)

    @property
    def _cookie_name(self) -> str:
        # cookies do not tell ports apart
        return f"abs-review-{self._server.server_port}"

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(), self._server.token.encode())

    def _get(self) -> None:
        address = urlsplit(self.path)
        try:
            fields = dict(parse_qsl(address.query, keep_blank_values=True, max_num_fields=20))
        except ValueError:
            raise _RefusedRequestError(HTTPStatus.BAD_REQUEST, "too many fields") from None
        if address.path == "/" and self._is_token(fields.get("token", "")):
            cookie = f"{self._cookie_name}={self._server.token}; HttpOnly; SameSite=Strict; Path=/"
            self._send(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Set-Cookie": cookie, "Location": "/"})
            return
        if not self._is_known():
            raise _RefusedRequestError(HTTPStatus.FORBIDDEN, "Open the address that `abs label review` printed")
        session = self._server.session
        kind, _, rest = address.path[1:].partition("/")
        if address.path in self._server.files:
            content_type, data = self._server.files[address.path]
            self._send(data, content_type)
        elif address.path == "/api/run":
            self._json(session.run())
        elif address.path == "/api/images":
            self._json(self._images(fields))
        elif address.path == "/api/confusions":
            self._json(session.confusions())
        elif address.path == "/api/changes":
            self._json(session.changes(fields.get("after", "")))
        elif kind in ("thumbnail", "image"):
            self._picture(
                _number(rest, 0), _number(fields.get("side", "240" if kind == "thumbnail" else "1600"), 1), fields
            )
        else:
            raise _RefusedRequestError(HTTPStatus.NOT_FOUND, "there is no such page")

    def _images(self, fields: Mapping[str, str]) -> dict[str, Any]:
        query = ReviewFilter(
            order=cast("Any", fields.get("order", "queue")),
            statuses=tuple(filter(None, fields.get("status", "").split(","))),
            label=_number(fields["label"], 0) if fields.get("label") else None,
            second=_number(fields["second"], 0) if fields.get("second") else None,
            decided=cast("Any", fields.get("decided") or "any"),
            search=fields.get("search", "")[:1000],
        )
        start, count = _number(fields.get("start", "0"), 0), _number(fields.get("count", "100"), 0)
        from_open = fields.get("open", "") not in ("", "0")
        return self._server.session.images(query, start, min(count, MAX_ROWS), from_open=from_open)

    def _picture(self, number: int, side: int, fields: Mapping[str, str]) -> None:
        row = self._server.session.row(number)
        if row is None:
            raise _RefusedRequestError(HTTPStatus.NOT_FOUND, f"there is no row {number}")
        side = min(side, MAX_SIDE)
        etag = f'"{row.image_id[-32:]}-{side}"'
        # another run on this port may have another image under the number, so only an address with its id is for ever
        lasts = "max-age=31536000, immutable" if fields.get("image") == row.image_id else "no-cache"
        headers = {"ETag": etag, "Cache-Control": f"private, {lasts}"}
        if etag in self.headers.get("If-None-Match", ""):
            self._send(b"", "", HTTPStatus.NOT_MODIFIED, headers)
            return
        self._send(self._server.thumbnails.picture(row, side), "image/jpeg", HTTPStatus.OK, headers)

    def _post(self) -> None:
        data = self._body()
        if not self._is_known():
            raise _RefusedRequestError(HTTPStatus.FORBIDDEN, "Open the address that `abs label review` printed")
        if self.path != "/api/decisions":
            raise _RefusedRequestError(HTTPStatus.NOT_FOUND, "there is no such page")
        if self.headers.get_content_type() != "application/json":
            raise _RefusedRequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "decisions must be application/json")
        self._json(self._server.session.decide(_entries(data)))

    def _body(self) -> bytes:
        text = self.headers.get("Content-Length", "")
        if not text.isdecimal() or len(text) > 12 or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise _RefusedRequestError(HTTPStatus.LENGTH_REQUIRED, "the length of the body must be stated")
        if int(text) > _MAX_BODY:
            self.close_connection = True
            raise _RefusedRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {_MAX_BODY} bytes")
        return self.rfile.read(int(text))

    def _json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json_text(value).encode(), "application/json", status)

    def _error(self, status: HTTPStatus, message: str) -> None:
        self._json({"error": message}, status)

    def _send(
        self,
        data: bytes,
        content_type: str,
        status: HTTPStatus = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Cache-Control": "no-store", **_HEADERS, **(headers or {})}.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def _number(text: str, least: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 15 and int(text) >= least):
        raise UsageError(f"a number of at least {least} is needed, got {text[:20]!r}")
    return int(text)


def _entries(data: bytes) -> list[Entry]:
    """The decisions of a request.

    Raises:
        UsageError: they are none.
    """
    try:
        values = json.loads(data)["decisions"]
        if len(values) > _MAX_ENTRIES:
            raise ValueError(f"more than {_MAX_ENTRIES} decisions")
        return [_entry(value) for value in values]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(f"these are no decisions: {type(error).__name__} {str(error)[:100]}") from error


def _entry(value: Mapping[str, Any]) -> Entry:
    number, image, label = value["number"], value["image"], value.get("label")
    action, shown_by, resolves = value["action"], value.get("shown_by", "chosen"), value.get("resolves", False)
    is_valid = (
        type(number) is int
        and 0 < number < 1 << 53
        and isinstance(image, str)
        and (label is None or type(label) is int)
        and action in ("accept", "label", "reject", "undo")
        and shown_by in ("random", "chosen")
        and isinstance(resolves, bool)
    )
    if not is_valid:
        raise ValueError("a field has a value that it cannot have")
    return Entry(number, image, action, label, shown_by, resolves)
