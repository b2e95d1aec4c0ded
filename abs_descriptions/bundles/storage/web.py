"""A folder behind a web server: to pull from. Needs no package.

Any server of static files will do. A version that is named is fetched by its path; to find the latest one the server
has to show an index of the folder, as Apache, nginx and ``python -m http.server`` do when they are configured to. A
server that asks who reads gets the token or the password that ``abs_core.credentials`` finds for its host.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from itertools import islice
from urllib.parse import unquote

from abs_core.credentials import authorization_for, token_variable
from abs_core.errors import DownloadError, StorageError, UsageError
from abs_core.http import read_url
from abs_core.locations import Location
from abs_descriptions.bundles.storage.base import MAX_NAMES, Blob, ListedFile, Storage, fetch

__all__ = ["WebStorage"]

_MAX_INDEX = 16 * 1024 * 1024
_LINK = re.compile(rb"""href\s*=\s*["']([^"'/?#]{1,300})/?["']""", re.IGNORECASE)


class WebStorage(Storage):
    """A folder behind a web server as a storage."""

    def __init__(self, location: Location) -> None:
        self.address = str(location)
        self._authorization = authorization_for(self.address)

    def names(self, folder: str) -> Sequence[str]:
        page = bytearray()
        try:
            fetch(self, folder + "/", page.extend, _MAX_INDEX)
        except FileNotFoundError:
            raise UsageError(
                f"{self.address} shows no index of {folder}/", remedy="Name the version, such as birds@1.2.0"
            ) from None
        names = (unquote(link.decode("ascii", "replace")) for link in _LINK.findall(page))
        return list(islice(dict.fromkeys(names), MAX_NAMES))

    def blocks(self, path: str) -> Generator[bytes, None, None]:
        header = "" if self._authorization is None else self._authorization.header
        try:
            yield from read_url(f"{self.address}/{path}", plain_http=True, authorization=header)
        except DownloadError as error:
            # a server that shows no index answers so for a folder
            if error.status in (404, 410) or (error.status == 403 and path.endswith("/")):
                raise FileNotFoundError(path) from None
            remedy = self._login_remedy() if error.status in (401, 403) else error.remedy
            raise StorageError(f"cannot read {self.address}: {error.reason}", remedy=remedy) from None

    def _login_remedy(self) -> str:
        if self._authorization is not None:
            return f"Check the credentials in {self._authorization.source}"
        return f"Set {token_variable(self.address)} to a token, or add the host to ~/.netrc, see docs/sharing.md"

    def check_writable(self) -> None:
        raise UsageError(
            f"{self.address} can only be pulled from", remedy="Push to the folder or the bucket that the server shows"
        )

    def publish(self, blobs: Sequence[Blob], path: str, data: bytes) -> bool:  # noqa: ARG002
        self.check_writable()
        return False

    def files(self, folder: str) -> Sequence[ListedFile]:  # noqa: ARG002
        raise UsageError(
            f"what is in {self.address} cannot be listed whole",
            remedy="Name the folder or the bucket that the server shows",
        )

    def restore(self, blobs: Sequence[Blob]) -> None:  # noqa: ARG002
        self.check_writable()

    def delete(self, files: Sequence[ListedFile]) -> Sequence[ListedFile]:
        self.check_writable()
        return files
