"""Texts of files from outside, read in bounded memory, and what is wrong with such a file."""

from __future__ import annotations

import stat
from pathlib import Path

from abs_core.files import storage_errors
from abs_core.text_files import foreign_content, wide_encoding

__all__ = ["MAX_IMPORT_BYTES", "ExternalFormatError", "read_external_text"]

MAX_IMPORT_BYTES = 256 * 1024 * 1024


class ExternalFormatError(Exception):  # a BundleError is made of it where the file is known
    """What is wrong with an external file, and on which line if it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def read_external_text(path: Path) -> str:
    """The text of a file from outside, UTF-8 or UTF-16, of at most ``MAX_IMPORT_BYTES``.

    Raises:
        StorageError: the file cannot be read.
        ExternalFormatError: no file, too large, or no text; with the line where there is one.
    """
    with storage_errors(path, "read"):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ExternalFormatError("not a file")
        if status.st_size > MAX_IMPORT_BYTES:
            raise ExternalFormatError(f"larger than the {MAX_IMPORT_BYTES // 1024**2} MiB that are read")
        data = path.read_bytes()
    foreign = foreign_content(data)
    if foreign is not None:
        raise ExternalFormatError(f"the file is {foreign[0]}; {foreign[1][:1].lower()}{foreign[1][1:]}")
    try:
        return data.decode(wide_encoding(data) or "utf-8-sig").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        encoding = error.encoding.upper()
        raise ExternalFormatError(f"byte 0x{data[error.start]:02x} is not valid {encoding}", line) from None
