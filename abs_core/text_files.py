"""Text files from outside: what they are by their first bytes, and their text, read in bounded memory."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from abs_core.files import storage_errors

__all__ = [
    "LFS_POINTER",
    "ExternalFormatError",
    "foreign_content",
    "read_external_text",
    "wide_encoding",
]

#: How every Git LFS pointer begins.
LFS_POINTER = b"version https://git-lfs"

_FOREIGN: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (
        re.compile(re.escape(LFS_POINTER)),
        "a Git LFS pointer, not the file that it stands for",
        "Fetch the file with `git lfs pull`",
    ),
    (
        re.compile(rb"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE),
        "a web page, not the file",
        "Download the file itself, for example under its raw address",
    ),
    (re.compile(rb"\s*<(?:\?xml|[A-Za-z]+>\s*<[A-Za-z])"), "XML", "Save it as text, CSV or JSON"),
    (re.compile(rb"PK\x03\x04"), "a zip archive or an office document", "Save it as text or CSV"),
    (re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd"), "a compressed file", "Unpack it first"),
    (
        re.compile(rb"(?:\s|#[^\n]*\n)*item\s*:?\s*\{"),
        "a label map of TensorFlow (.pbtxt)",
        "Write its names, one on each line",
    ),
    (re.compile(rb"\{\\rtf"), "a document of a word processor", "Save it as text or CSV"),
    (
        re.compile(rb"40[134]: [A-Za-z ]{1,40}\s*\Z"),
        "the answer of a web server that has no such file",
        "Check the address, and download the file again",
    ),
    (
        re.compile(rb"%PDF-|PAR1|\x93NUMPY|\x89HDF|SQLite format 3|\x89PNG|\xff\xd8\xff|GIF8|\x80[\x02-\x05]"),
        "no text",
        "Name a text file",
    ),
)


_CONFLICT = (rb"<{7} ", rb"={7}\r?$", rb">{7} ")


def foreign_content(data: bytes) -> tuple[str, str] | None:
    """What a file is instead of text, and the remedy; None if nothing says so.

    Args:
        data: its first bytes; a hundred are enough, except to find the marks of a conflict further on.
    """
    if all(re.search(rb"^" + mark, data, re.MULTILINE) for mark in _CONFLICT):
        return "a file with unresolved conflicts of Git (<<<<<<<)", "Resolve them, and commit the file"
    start = data[:1024].removeprefix(b"\xef\xbb\xbf")
    return next(((what, remedy) for pattern, what, remedy in _FOREIGN if pattern.match(start)), None)


def wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 by the byte order mark, else UTF-16 by the zero bytes that it has beside Latin letters."""
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return encoding
    head = data[:4096]
    if len(data) % 2 == 0 and len(head) >= 4:
        even, odd = head[0::2].count(0), head[1::2].count(0)
        if even == 0 and odd > 0.4 * len(head) / 2:
            return "utf-16-le"
        if odd == 0 and even > 0.4 * len(head) / 2:
            return "utf-16-be"
    return None


# The largest file whose text is read.
_MAX_IMPORT_BYTES = 256 * 1024 * 1024


class ExternalFormatError(Exception):  # a BundleError is made of it where the file is known
    """What is wrong with an external file, and on which line if it is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


def read_external_text(path: Path) -> str:
    """The text of a file from outside, UTF-8 or UTF-16, of at most ``_MAX_IMPORT_BYTES``.

    Raises:
        StorageError: the file cannot be read.
        ExternalFormatError: no file, too large, or no text; with the line where there is one.
    """
    with storage_errors(path, "read"):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ExternalFormatError("not a file")
        if status.st_size > _MAX_IMPORT_BYTES:
            raise ExternalFormatError(f"larger than the {_MAX_IMPORT_BYTES // 1024**2} MiB that are read")
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
