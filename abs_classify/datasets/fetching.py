"""Download the files of a data set into a folder that the user names: complete files, all from one source."""

from __future__ import annotations

from pathlib import Path

from abs_core.errors import DatasetError, DownloadError, UsageError
from abs_core.files import atomic_write
from abs_core.http import download

__all__ = ["claim", "fetch"]


# names the source of the files beside it
_MARKER = ".fetched-from"


def claim(folder: Path, source: str) -> bool:
    """Mark a folder as a copy of one source, so that files of two sources never mix.

    Returns:
        Whether it was marked before.

    Raises:
        UsageError: the folder contains other files, or a copy of another source.
        StorageError: it cannot be written.
    """
    marker = folder / _MARKER
    if marker.is_file():
        marked = marker.read_text(encoding="utf-8").strip()
        if marked != source:
            raise UsageError(
                f"the folder {str(folder)!r} is a copy of {marked}", remedy="Name another folder with ?to=DIR"
            )
        return True
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"the folder {str(folder)!r} must be new or empty", remedy="Name another folder with ?to=DIR")
    with atomic_write(marker) as stream:
        stream.write(source.encode())
    return False


def fetch(url: str, target: Path, limit: int, optional: bool = False) -> bool:
    """Download a file, unless it exists.

    Args:
        url: an address that passed ``validate_url``.
        target: the file to write.
        limit: its maximum size in bytes.
        optional: whether the server may not have it.

    Returns:
        Whether the file exists now.

    Raises:
        DatasetError: the server does not send it, or it is too large.
        StorageError: it cannot be written.
    """
    try:
        download(url, target, max_bytes=limit)
    except DownloadError as error:
        if optional and error.status in (403, 404):
            return False
        is_answer = error.status is not None and error.status >= 400
        problem = f"the server answered {error.status}" if is_answer else error.reason
        raise DatasetError(f"cannot fetch {url}: {problem}", remedy=error.remedy) from error
    return True
