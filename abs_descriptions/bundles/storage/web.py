"""A folder behind a web server: to pull from. Needs no package.

Any server of static files will do. A version that is named is fetched by its path; to find the latest one the server
has to show an index of the folder, as Apache, nginx and ``python -m http.server`` do when they are told to.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import islice
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from abs_core.errors import UsageError
from abs_descriptions.bundles.storage.base import BLOCK, MAX_NAMES, Location, RemoteBlob, fetch, problem_of

__all__ = ["WebRemote"]


_TIMEOUT = 30.0  # seconds, for each wait


_PAUSES = (0.5, 2.0)  # seconds before the second and the third try


_MAX_INDEX = 16 * 1024 * 1024


_LINK = re.compile(rb"""href\s*=\s*["']([^"'/?#]{1,300})/?["']""", re.IGNORECASE)


class WebRemote:
    """A folder behind a web server as a remote: ``Remote`` says what the methods do."""

    def __init__(self, location: Location) -> None:
        self.address = str(location)
        self._opener = _opener()

    def names(self, folder: str) -> Sequence[str]:
        page = bytearray()
        try:
            fetch(self, folder + "/", page.extend, _MAX_INDEX)
        except FileNotFoundError:
            raise UsageError(
                f"{self.address} shows no index of {folder}/", remedy="Name the version, such as birds@1.2.0"
            ) from None
        found = (unquote(link.decode("ascii", "replace")) for link in _LINK.findall(page))
        return list(islice(dict.fromkeys(found), MAX_NAMES))

    def blocks(self, path: str) -> Generator[bytes, None, None]:
        done, pauses = 0, list(_PAUSES)
        while True:
            try:
                with closing(self._ask(path, done)) as answer:
                    while block := answer.read1(BLOCK):
                        yield block
                        done += len(block)
                    if answer.length:  # the server promised more
                        raise http.client.IncompleteRead(b"", answer.length)
                return
            except (OSError, http.client.HTTPException, ValueError) as error:  # the last for a host that can be none
                status = None
                if isinstance(error, urllib.error.HTTPError):
                    status = error.code
                    error.close()
                if status in (404, 410):
                    raise FileNotFoundError(path) from None
                if not pauses or (status is not None and status < 500 and status != 429):
                    raise problem_of(error, "read", self.address) from None
            time.sleep(pauses.pop(0))

    def check_writable(self) -> None:
        raise UsageError(
            f"{self.address} can only be pulled from", remedy="Push to the folder or the bucket that the server shows"
        )

    def publish(self, pieces: Sequence[RemoteBlob], path: str, data: bytes) -> bool:  # noqa: ARG002
        self.check_writable()
        return False

    def _ask(self, path: str, done: int) -> http.client.HTTPResponse:
        headers = {"Accept-Encoding": "identity", "User-Agent": "abs-toolkit"}
        if done:
            headers["Range"] = f"bytes={done}-"
        request = urllib.request.Request(f"{self.address}/{path}", headers=headers)  # noqa: S310
        answer: http.client.HTTPResponse = self._opener.open(request, timeout=_TIMEOUT)
        begins = (answer.headers["Content-Range"] or "").startswith(f"bytes {done}-")
        expected = answer.status == 206 and begins if done else answer.status == 200
        if answer.headers["Content-Encoding"] or not expected:
            answer.close()
            raise http.client.HTTPException("the answer is compressed, partial, or none")
        return answer


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to other web addresses only, and never from an encrypted one to an open one."""

    def http_error_302(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:  # no address at all
            raise urllib.error.HTTPError(req.full_url, code, "refused redirect", headers, fp) from None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if (
            after.scheme not in ("http", "https")
            or (before.scheme, after.scheme) == ("https", "http")
            or after.username
        ):
            raise urllib.error.HTTPError(req.full_url, code, "refused redirect", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Speaks http and https alone; urllib's own also opens files and ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener
