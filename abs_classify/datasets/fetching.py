"""Files from the web into a folder that the user named: https only, no credentials, bounded, whole or not at all."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from abs_core.errors import DatasetError, UsageError
from abs_core.files import atomic_write

__all__ = ["check_url", "claim", "fetch", "is_url"]


#: Says what a folder of fetched files is a copy of.
_MARK = ".fetched-from"


_CHUNK = 1 << 20


_TIMEOUT = 60.0


_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_url(text: str) -> bool:
    """Whether a place is on the web rather than on a disk."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def check_url(url: str) -> str:
    """The address without a slash at its end, if it may be fetched.

    Raises:
        UsageError: a scheme other than https (http only from this machine), credentials, a query, or a chain of them.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise UsageError(f"the address scheme {parts.scheme!r} is not allowed", remedy="Write an https:// address")
    if parts.username or parts.password or "@" in parts.netloc:
        # the address itself is not repeated: it would end in logs
        raise UsageError(f"the address on {host!r} holds credentials", remedy="Write it without them")
    if "::" in parts.path or parts.query or parts.fragment or not host:
        raise UsageError(f"the address on {host!r} is no plain one", remedy="Write it without '::', query and fragment")
    return url.rstrip("/")


def claim(folder: Path, source: str) -> bool:
    """Mark a folder as a copy of one source, so that the files of two never mix.

    Returns:
        Whether it was one before.

    Raises:
        UsageError: the folder holds other files, or a copy of something else.
        StorageError: it cannot be written.
    """
    mark = folder / _MARK
    if mark.is_file():
        other = mark.read_text(encoding="utf-8").strip()
        if other != source:
            raise UsageError(
                f"the folder {str(folder)!r} is a copy of {other}", remedy="Name another folder with ?to=DIR"
            )
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{str(folder)!r} is not a new or empty folder", remedy="Name another folder with ?to=DIR")
    with atomic_write(mark) as stream:
        stream.write(source.encode())
    return False


def fetch(url: str, target: Path, limit: int, optional: bool = False) -> bool:
    """Fetch a file, unless it is there.

    Args:
        url: passed ``check_url``.
        target: where to put it.
        limit: the most bytes that it may have.
        optional: whether it may not exist.

    Returns:
        Whether the file is there now.

    Raises:
        DatasetError: the server does not give it, or it is too large.
        StorageError: it cannot be written.
    """
    if target.is_file():
        return True
    opener = urllib.request.build_opener(_SafeRedirects())
    try:
        with opener.open(url, timeout=_TIMEOUT) as reply, atomic_write(target) as stream:
            size = 0
            while chunk := reply.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise DatasetError(f"{url} has more than {limit >> 20} MB", remedy="Check the address")
                stream.write(chunk)
            expected = reply.headers.get("Content-Length")
            if expected is not None and expected.isdigit() and int(expected) != size:
                raise DatasetError(f"{url} broke off after {size} of {expected} bytes", remedy="Run the command again")
    except urllib.error.HTTPError as error:
        if optional and error.code in (403, 404):
            return False
        raise DatasetError(f"{url} answers {error.code}", remedy="Check the address") from error
    except (urllib.error.URLError, TimeoutError, HTTPException, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise DatasetError(
            f"cannot fetch {url}: {reason}", remedy="Run the command again; what was fetched stays"
        ) from error
    return True


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a user could have pointed as well."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        # a signed address has a query; nothing of it is stored
        plain = urlsplit(newurl)._replace(query="", fragment="").geturl()
        check_url(plain)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise UsageError("the server redirects to an address without encryption", remedy="Use another source")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
