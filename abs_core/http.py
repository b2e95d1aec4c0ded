"""Files by http and https, for everything of ours that downloads them: one policy for addresses, redirects and retries.

    validate_url(url)                an address that a user wrote
    read_url(url)                    its bytes in blocks, as they come
    download(url, target, ...)       a file that is there whole or not at all, resumed where an earlier run ended

Only http and https are spoken, never with credentials in an address, never from https on to http; those in a header go
to the host that was asked for and to none that it redirects to. What fails in a way
that may pass (no connection, a connection that breaks, the statuses 408, 425, 429 and 5xx) is asked again up to twice
without any progress between; a server that says how long to wait (``Retry-After``) is believed up to a minute. A
transfer that is slower than 20 kB/s after its first minute, pauses included, is ended, which bounds the time of all.
Answers that a server or a proxy compresses unasked are decompressed as they come.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from pathlib import Path
from socket import gaierror
from typing import IO, Any, BinaryIO
from urllib.parse import urlsplit

from abs_core.durations import http_date, seconds_until
from abs_core.errors import DownloadError, UsageError
from abs_core.files import lock_file, sha256_file, storage_errors
from abs_core.network import explain_connection, is_loopback, proxy_for, tls_context

__all__ = ["download", "is_url", "longest_transfer", "read_url", "retry_after", "validate_url"]

_BLOCK = 1 << 20
_TIMEOUT = 30.0  # seconds, for each wait
_PAUSES = (0.5, 2.0)  # seconds before the second and the third attempt
_LONGEST_PAUSE = 60.0  # seconds that a server may ask to wait
_GRACE = 60.0  # seconds before a transfer can be too slow
_SLOWEST = 20_000  # bytes per second
_TRANSIENT = (408, 425, 429)
_GZIP = ("gzip", "x-gzip")

# an address that can be none is a ValueError: a label of 64 letters, a port that is no number
_FAILURES = (OSError, HTTPException, ValueError)


def is_url(text: str) -> bool:
    """Whether a location is on the web rather than on a disk."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def validate_url(url: str) -> str:
    """The address without a slash at its end, if a user may have it downloaded.

    Raises:
        UsageError: a scheme other than https (http only from this machine), credentials, a query, or a chain of them.
    """
    _require_allowed(url, plain_http=False)
    parts = urlsplit(url)
    host = parts.hostname or ""
    if "::" in parts.path or parts.query or parts.fragment or not host:
        raise UsageError(f"the address on {host!r} must not contain '::', a query or a fragment", remedy="Remove them")
    return url.rstrip("/")


def read_url(url: str, *, plain_http: bool = False, authorization: str = "") -> Generator[bytes, None, None]:
    """The bytes of a file in blocks of at most 1 MiB, as they come.

    What breaks off is resumed where it ended. A server that names no version of the file (``ETag``, ``Last-Modified``)
    is trusted to have the same one still, so check a digest of the whole.

    Args:
        url: the address; it is shown in errors, so it should hold no secret.
        plain_http: whether http is allowed from other machines than this one.
        authorization: the value of the header of that name; sent to the host of the address and to no other.

    Raises:
        UsageError: an address that may not be opened.
        DownloadError: the server does not give it, or another version of it after a break.
    """
    transfer, done, version = _Transfer(url, plain_http, trusting=True, authorization=authorization), 0, ""
    with closing(transfer.blocks()) as blocks:
        for position, block in blocks:
            if not block:
                if done and transfer.version != version:
                    raise DownloadError(url, "it changed while it was read", remedy="Try again")
                version = transfer.version
            elif position + len(block) > done:
                yield block[max(0, done - position) :]
                done = position + len(block)


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    authorization: str = "",
    sha256: str = "",
    advance: Callable[[int], object] | None = None,
) -> bool:
    """Download a file, unless there is one under ``target``.

    The bytes go to a file beside it, which is flushed and renamed. It stays when the download breaks off, and the next
    one of the same address resumes it, provided that the server has the same version still (``If-Range``). Of several
    processes with the same target one downloads and the others wait for it.

    Args:
        url: the address; it is shown in errors, so it should hold no secret.
        target: where the file is to be. Parents are created.
        max_bytes: that it may have.
        authorization: as for ``read_url``.
        sha256: of the whole file, 64 hexadecimal digits; empty if it is not known.
        advance: called with the number of bytes that are there more; of what is resumed first, negative where it
            begins anew.

    Returns:
        Whether it was downloaded; False if it was there.

    Raises:
        UsageError: an address that may not be opened.
        DownloadError: the server does not give it, or it is too large, or has another digest.
        StorageError: it cannot be written.
    """
    partial = _PartialFile(url, target)
    with storage_errors(target, "write"):
        if target.is_file():
            return False
        with partial.open() as stream:
            if target.is_file():  # another process was faster
                return False
            begin = stream.tell()
            transfer = _Transfer(
                url,
                plain_http=False,
                trusting=False,
                position=begin,
                version=partial.version,
                authorization=authorization,
            )
            if begin < max_bytes or not sha256:  # else it was killed before it was renamed
                _write(transfer, partial, stream, max_bytes, advance or _ignore)
            actual = sha256_file(partial.path).removeprefix("sha256:") if sha256 else ""
            if actual != sha256:
                partial.discard()
                raise DownloadError(url, f"it has the sha256 {actual}, not {sha256}", remedy="Try again")
            partial.path.replace(target)
    return True


def _ignore(_count: int) -> None:
    pass


def _write(
    transfer: _Transfer, partial: _PartialFile, stream: BinaryIO, max_bytes: int, advance: Callable[[int], object]
) -> None:
    advance(stream.tell())
    with closing(transfer.blocks()) as blocks:
        for position, block in blocks:
            if not block:
                advance(-stream.tell())
                stream.seek(0)
                stream.truncate()
                partial.begin(transfer.version)
            if max(transfer.size or 0, position + len(block)) > max_bytes:
                partial.discard()
                reason = f"it has more than the {max_bytes} bytes that it may have"
                raise DownloadError(transfer.url, reason, remedy="Check the address")
            stream.write(block)
            advance(len(block))
    stream.flush()
    os.fsync(stream.fileno())


def longest_transfer(size: int) -> float:
    """The seconds that a transfer of ``size`` bytes may take."""
    return _GRACE + size / _SLOWEST


def retry_after(headers: Any, now: datetime) -> float | None:
    """The seconds that ``Retry-After`` asks to wait, in any form that ``seconds_until`` reads; None without one."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        seconds = seconds_until(headers.get(name), now)
        if seconds is not None:
            return seconds / unit
    return None


class _Transfer:
    """The bytes of one address in several attempts.

    Args:
        url: the address.
        plain_http: as for ``read_url``.
        trusting: whether to resume a file of which the server names no version.
        position: of the first byte to ask for.
        version: that a resumed file must still have, as ``If-Range`` takes it; empty for any.
        authorization: as for ``read_url``.

    Attributes:
        size: of the whole file in bytes, where the server says it.
    """

    def __init__(
        self,
        url: str,
        plain_http: bool,
        *,
        trusting: bool,
        position: int = 0,
        version: str = "",
        authorization: str = "",
    ) -> None:
        _require_allowed(url, plain_http)
        self._authorization = authorization
        self.url, self._trusting, self._position, self.version = url, trusting, position, version
        self.size: int | None = None
        self._opener = _build_opener(plain_http)
        self._decoder: Any = None
        self._failures, self._furthest, self._received, self._seconds = 0, position, 0, 0.0

    def blocks(self) -> Generator[tuple[int, bytes], None, None]:
        """Blocks with their position, which is 0 again, with an empty block, whenever the file begins anew."""
        while True:
            try:
                with self._clock():
                    response = self._ask()
                with closing(response):
                    if self._position == 0:
                        yield 0, b""
                    while block := self._read(response):
                        for part in self._decoded(block):
                            yield self._position, part
                            self._advance(len(part))
                    if response.length:  # the server promised more
                        raise IncompleteRead(b"", response.length)
                    if self._decoder is not None and not self._decoder.eof:
                        raise IncompleteRead(b"")
                return
            except _FAILURES as error:
                pause = self._pause_after(error)
            with self._clock():
                time.sleep(pause)

    def _ask(self) -> HTTPResponse:
        headers = {"Accept-Encoding": "identity", "User-Agent": "abs-toolkit"}
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
            if self.version:
                headers["If-Range"] = self.version
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            response: HTTPResponse = self._opener.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not self._position:
                raise
            error.close()  # the file is not as long any more
            self._position = 0
            return self._ask()
        try:
            self._accept(response)
        except HTTPException:
            response.close()
            raise
        return response

    def _accept(self, response: HTTPResponse) -> None:
        version, begin = _version_of(response.headers), f"bytes {self._position}-"
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if encoding in _GZIP and urlsplit(self.url).path.endswith((".gz", ".tgz")):
            encoding = "identity"  # Apache calls the file itself an encoding
        if encoding not in ("identity", "", *_GZIP) or (encoding in _GZIP and response.status != 200):
            raise HTTPException("the answer is compressed")
        # some servers and proxies compress whatever is asked for; a part of what they send cannot be resumed
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding in _GZIP else None
        if self._decoder is not None:
            self._position, self.version, self.size = 0, "", None
            return
        if response.status == 200:
            # also where a range was asked for: the server knows no ranges, or has another version
            self._position, self.version = 0, version
        elif self._position and version and self.version and version != self.version:
            self._position = 0
            raise HTTPException("a range of another version")
        elif not (
            response.status == 206 and self._position and response.headers.get("Content-Range", "").startswith(begin)
        ):
            raise HTTPException("a part that was not asked for")
        self.size = None if response.length is None else self._position + response.length

    def _read(self, response: HTTPResponse) -> bytes:
        with self._clock():
            block = response.read1(_BLOCK)
        self._received += len(block)
        if self._seconds > longest_transfer(self._received):
            raise DownloadError(self.url, "the server sends it too slowly", remedy="Try again later")
        return block

    def _decoded(self, block: bytes) -> Iterator[bytes]:
        """What a block of the answer stands for, in blocks that are no larger, however well it was compressed."""
        if self._decoder is None:
            yield block
            return
        while block and not self._decoder.eof:
            try:
                part = self._decoder.decompress(block, _BLOCK)
            except zlib.error:
                raise HTTPException("the answer is badly compressed") from None
            if part:
                yield part
            block = self._decoder.unconsumed_tail

    def _advance(self, count: int) -> None:
        self._position += count
        # what was there before is no progress: a server that always breaks off at one place is not asked for ever
        if self._position > self._furthest:
            self._furthest, self._failures = self._position, 0

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Count what the server takes, not what is done with its bytes."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._seconds += time.monotonic() - begin

    def _pause_after(self, error: Exception) -> float:
        """Seconds to wait before the next attempt.

        Raises:
            DownloadError: there is none.
        """
        status, wait = None, None
        if isinstance(error, urllib.error.HTTPError):
            status, wait = error.code, retry_after(error.headers, datetime.now(UTC))
            error.close()
        passing = status is None or status in _TRANSIENT or status >= 500
        if not passing or self._failures == len(_PAUSES) or (wait or 0) > _LONGEST_PAUSE:
            reason, remedy = _explain(error, wait)
            raise DownloadError(self.url, reason, remedy=remedy, status=status) from None
        if not self.version and not self._trusting:
            self._position = 0
        if self._decoder is not None:
            self._position = 0
        pause = max(wait or 0.0, _PAUSES[self._failures])
        self._failures += 1
        return pause


class _PartialFile:
    """What there is of a download beside its target: its bytes, and a file with their version that is the lock."""

    def __init__(self, url: str, target: Path) -> None:
        key = hashlib.sha256(url.encode()).hexdigest()[:32]
        self._target = target
        self.path = target.with_name(f".{target.name[:80]}.{key}.part")
        self._state_path = target.with_name(f".{target.name[:80]}.version.{key}.part")
        self.version = ""

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Hold the lock and give the bytes to write on, at their end. What cannot be resumed is removed afterwards."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        with self._locked_state() as self._state:
            self.version = self._state.read().decode("ascii", "replace")
            try:
                with _open_or_create(self.path) as stream:
                    if not self.version:
                        stream.truncate(0)
                    stream.seek(0, os.SEEK_END)
                    yield stream
            finally:
                size = self.path.stat().st_size if self.path.exists() else 0
                if not size or not self.version:
                    self.discard()

    def begin(self, version: str) -> None:
        """Note the version of the bytes that follow."""
        self.version = version
        self._state.seek(0)
        self._state.truncate()
        self._state.write(version.encode("ascii"))
        self._state.flush()

    def discard(self) -> None:
        """Remove what there is."""
        for path in (self.path, self._state_path):
            with suppress(OSError):
                path.unlink()

    def _locked_state(self) -> BinaryIO:
        while True:
            stream = _open_or_create(self._state_path)
            lock_file(stream, wait=True)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(stream.fileno()), self._state_path.stat()):
                    return stream
            stream.close()  # whoever had the lock has ended and removed the file


def _open_or_create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


class _RefusedRedirectError(urllib.error.HTTPError):
    """A redirect to where a user could not have pointed either."""


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to allowed addresses only, and never from an encrypted one to an open one."""

    def __init__(self, plain_http: bool) -> None:
        self._plain_http = plain_http

    def http_error_302(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:
            raise _RefusedRedirectError(req.full_url, code, "the address is invalid", headers, fp) from None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _require_allowed(newurl, self._plain_http)
        except UsageError as error:
            raise _RefusedRedirectError(req.full_url, code, error.message, headers, fp) from None
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise _RefusedRedirectError(req.full_url, code, "the address is without encryption", headers, fp)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if request is not None and authorization and _origin(newurl) == _origin(req.full_url):
            request.add_unredirected_header("Authorization", authorization)
        return request


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials are for."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)


class _EnvironmentProxies(urllib.request.BaseHandler):
    """Sends each request through the proxy that the environment names for its host, redirected ones too."""

    handler_order = 100

    def http_open(self, request: urllib.request.Request) -> Any:
        """The answer through the proxy; None where there is none and the other handlers go on.

        Raises:
            UsageError: a proxy that cannot be used.
        """
        proxy = proxy_for(request.full_url)
        if proxy is None:
            return None
        if proxy.is_socks:
            raise UsageError(
                f"downloads cannot go through the SOCKS proxy of {proxy.variable}",
                remedy=f"Set {request.type}_proxy to an HTTP proxy, or unset {proxy.variable}",
            )
        return urllib.request.ProxyHandler({request.type: proxy.url}).proxy_open(request, proxy.url, request.type)

    https_open = http_open


def _build_opener(plain_http: bool) -> urllib.request.OpenerDirector:
    """Speaks http and https alone; urllib's own also opens files and ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _EnvironmentProxies(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=tls_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _CheckedRedirects(plain_http),
    ):
        opener.add_handler(handler)
    return opener


def _require_allowed(url: str, plain_http: bool) -> None:
    """Refuse an address without repeating it: what is wrong with it may be a password."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError("the address is invalid", remedy="Write an https:// address") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and (plain_http or is_loopback(url))):
        raise UsageError(f"the address scheme {parts.scheme!r} is not allowed", remedy="Write an https:// address")
    if "@" in parts.netloc:
        raise UsageError(f"the address on {host!r} must not contain credentials", remedy="Remove them")


def _version_of(headers: HTTPMessage) -> str:
    """What ``If-Range`` may hold (RFC 9110, 13.1.5): a strong ``ETag``, or a date that no later change can have."""
    tag, changed = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', tag):
        return tag
    last, now = http_date(changed), http_date(headers.get("Date", ""))
    is_strong = last is not None and now is not None and now - last >= timedelta(minutes=1)
    return changed if is_strong and changed.isascii() and changed.isprintable() else ""


def _explain(error: Exception, wait: float | None) -> tuple[str, str]:
    """Reason and remedy, never in the words of the library: these may hold a signed address."""
    if isinstance(error, _RefusedRedirectError):
        return f"it redirects elsewhere, and {error.msg} (HTTP {error.code})", "Use another source"
    if isinstance(error, urllib.error.HTTPError):
        if error.code < 400:
            return f"it redirects in circles, or to no web address (HTTP {error.code})", "Use another source"
        fails = "fails" if error.code >= 500 else "refuses it"
        remedy = "Check the address" if error.code < 500 else "Try again later"
        if wait is not None and wait > _LONGEST_PAUSE:
            remedy = f"The server asks to wait for {wait:.0f} s; try again then"
        return f"the server {fails} (HTTP {error.code})", remedy
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "it did not answer in time", "Try again, or check the connection"
    if isinstance(cause, IncompleteRead):
        return "it broke off", "Try again"
    if isinstance(cause, ssl.SSLError):
        return explain_connection(cause, "its server")
    if isinstance(cause, gaierror):
        return "its host name cannot be resolved", "Check the address and the connection"
    if isinstance(cause, ConnectionError) and not isinstance(cause, ConnectionRefusedError):
        return "the connection broke", "Try again"
    if isinstance(cause, OSError):
        return "it cannot be reached", "Check the address and the connection"
    return f"it gives no proper answer ({type(cause).__name__})", "Check the address"
