"""Which format a file is in, from its first bytes: the images that are read, and by name what is often found instead.

Imports neither Pillow nor numpy, so that listing a folder stays cheap.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from abs_core.text_files import LFS_POINTER

__all__ = ["FORMATS", "HEAD_BYTES", "IMAGE_EXTENSIONS", "MAX_FILE_BYTES", "FileFormat", "file_format"]

#: The formats that are opened, by Pillow's names; no other decoder is tried. MPO files are JPEG files.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")

#: File name extensions of the ``FORMATS``, in lower case. Names lie: ``file_format`` looks into the file.
IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".avifs", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"}
)

#: A larger file is no image that is read: 100 megapixels of 16-bit colour need 600 MB.
MAX_FILE_BYTES = 1 << 30

#: How many bytes ``file_format`` looks at.
HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class FileFormat:
    """The format of a file.

    Args:
        name: for messages, with an article: ``a PNG image``, ``an HTML page``.
        readable: whether it is an image in one of the ``FORMATS``.
        is_image: whether it is an image, readable or not.
    """

    name: str
    readable: bool
    is_image: bool


def file_format(head: bytes) -> FileFormat | None:
    """The format of a file; None if it is none that is known here. Never raises.

    Args:
        head: its first ``HEAD_BYTES`` bytes, or all of them where it has fewer.
    """
    head = head[:HEAD_BYTES]
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    for matches, found in _KNOWN:
        if matches(head):
            return found
    return _text(head)


def _readable(name: str) -> FileFormat:
    return FileFormat(f"a {name} image", readable=True, is_image=True)


def _unread(name: str) -> FileFormat:
    return FileFormat(name, readable=False, is_image=True)


def _other(name: str) -> FileFormat:
    return FileFormat(name, readable=False, is_image=False)


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(prefixes)


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(b"RIFF") and head[8:12] == kind


# two letters are not enough to tell a bitmap from a text that begins with BM: the size of its second header
_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_NETPBM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+[0-9]|Pf\s+[0-9]")
_CAMERA_RAW = _unread("a camera raw image")

_KNOWN: tuple[tuple[Callable[[bytes], bool], FileFormat], ...] = (
    (_starts(b"\xff\xd8\xff"), FileFormat("a JPEG image", readable=True, is_image=True)),
    (_starts(b"\x89PNG\r\n\x1a\n"), _readable("PNG")),
    (_riff(b"WEBP"), _readable("WebP")),
    (_starts(b"GIF87a", b"GIF89a"), _readable("GIF")),
    (lambda head: head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BITMAP_HEADERS, _readable("BMP")),
    (lambda head: head[:3] == b"II*" and head[8:10] == b"CR", _CAMERA_RAW),
    (_starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _readable("TIFF")),
    (lambda head: _NETPBM.match(head) is not None, _readable("Netpbm")),
    (_starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), _readable("JPEG 2000")),
    (_starts(b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"), _unread("a JPEG XL image")),
    (_starts(b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb"), _CAMERA_RAW),
    (_starts(b"8BPS"), _unread("a Photoshop image")),
    (_starts(b"\0\0\1\0"), _unread("an icon")),
    (_starts(b"icns"), _unread("an icon")),
    (_starts(b"qoif"), _unread("a QOI image")),
    (_starts(b"DDS "), _unread("a DDS texture")),
    (_starts(b"v/1\x01"), _unread("an OpenEXR image")),
    (_starts(b"#?RADIANCE", b"#?RGBE"), _unread("a Radiance image")),
    (_starts(b"SIMPLE  ="), _unread("a FITS image")),
    (lambda head: head[128:132] == b"DICM", _unread("a DICOM image")),
    (_starts(b"gimp xcf"), _unread("a GIMP image")),
    (_starts(b"P7\n"), _unread("a PAM image")),
    (_starts(b"%!PS", b"\xc5\xd0\xd3\xc6"), _unread("a PostScript file")),
    (_starts(b"%PDF-"), _other("a PDF file")),
    (_riff(b"AVI "), _other("a video")),
    (_starts(b"\x1aE\xdf\xa3"), _other("a video")),
    (_starts(b"PK\3\4"), _other("a zip archive")),
    (_starts(b"\x1f\x8b"), _other("a gzip file")),
    (lambda head: head[257:262] == b"ustar", _other("a tar archive")),
    (_starts(b"\xd0\xcf\x11\xe0"), _other("a Windows thumbnail or Office file")),
    (_starts(b"\0\5\x16\7"), _other("an AppleDouble file")),
    (_starts(LFS_POINTER), _other("a Git LFS pointer")),
)


_SEQUENCES = frozenset({b"msf1", b"mif1"})
_HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})


def _iso_media(head: bytes) -> FileFormat:
    """AVIF, HEIC and videos are one container; its brands tell them apart, and the first may be a general one."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(size, len(head)), 4))]
    if brands[0] in {b"avif", b"avis"} or (brands[0] in _SEQUENCES and {b"avif", b"avis"} & set(brands)):
        return FileFormat("an AVIF image", readable=True, is_image=True)
    if brands[0] == b"crx ":
        return _CAMERA_RAW
    if _HEIF.intersection(brands) or brands[0] in _SEQUENCES:
        return _unread("a HEIF image (HEIC)")
    return _other("a video")


def _text(head: bytes) -> FileFormat | None:
    """A page or drawing that is text."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text):
        return _unread("an SVG drawing")
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or (
        text.startswith(b"<") and b"<html" in text
    ):
        return _other("an HTML page")
    return None
