"""Files from the web in a folder that the user named: whole or not at all, and never those of two sources."""

from __future__ import annotations

from pathlib import Path

from abs_core.errors import DatasetError, DownloadError, UsageError
from abs_core.files import atomic_write
from abs_core.http import download

__all__ = ["claim", "fetch"]


#: Says what a folder of fetched files is a copy of.
_MARK = ".fetched-from"


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
        url: passed ``validate_url``.
        target: where to put it.
        limit: the most bytes that it may have.
        optional: whether it may not exist.

    Returns:
        Whether the file is there now.

    Raises:
        DatasetError: the server does not give it, or it is too large.
        StorageError: it cannot be written.
    """
    try:
        download(url, target, max_bytes=limit)
    except DownloadError as error:
        if optional and error.status in (403, 404):
            return False
        is_answer = error.status is not None and error.status >= 400
        what = f"{url} answers {error.status}" if is_answer else f"cannot fetch {url}: {error.reason}"
        raise DatasetError(what, remedy=error.remedy) from error
    return True
