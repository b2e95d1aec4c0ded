"""The image files of an export: where they are, or copies of and links to them, and how large the images are."""

from __future__ import annotations

import errno
import io
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias, get_args

from PIL import Image

from abs_classify.image_formats import FORMATS, HEAD_BYTES, IMAGE_EXTENSIONS, file_format
from abs_classify.labelling.exporters.names import UniqueNames, safe_name
from abs_classify.labelling.locations import ImageLocation
from abs_core.errors import ImageError, StorageError, UsageError
from abs_core.files import storage_errors

__all__ = ["LINKS", "ImagePlacer", "Links", "relative_name", "upright_size"]

#: how the files of images come into an export
Links: TypeAlias = Literal["copy", "hard", "symbolic"]

LINKS: tuple[Links, ...] = get_args(Links)

# of EXIF; from 5 on width and height change places
_ORIENTATION_TAG, _LYING = 0x0112, 5

# by a word of the name that ``file_format`` gives; the first that fits
_EXTENSIONS = {
    **{"JPEG 2000": ".jp2", "JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "GIF": ".gif", "BMP": ".bmp"},
    **{"TIFF": ".tif", "AVIF": ".avif", "Netpbm": ".ppm"},
}

# what linking cannot do on some file systems, or between them
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def upright_size(location: ImageLocation) -> tuple[int, int]:
    """Width and height of the image, turned upright, of whose box or which the location is. Decodes nothing.

    Raises:
        ImageError: it cannot be read.
    """
    whole = replace(location, box=None)
    try:
        source: Path | io.BytesIO = whole.file if not whole.member else io.BytesIO(whole.sample().read())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(source, formats=FORMATS) as image:
                width, height = image.size
                orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except ImageError:
        raise
    except Exception as error:  # a broken header can raise anything
        raise ImageError(f"the size of the image {str(whole.file)!r} cannot be read", remedy="Replace it") from error
    is_lying = isinstance(orientation, int) and orientation >= _LYING
    return (height, width) if is_lying else (width, height)


class ImagePlacer:
    """Puts the files of images into a folder.

    Args:
        part: the folder while it is written; None to write nothing.
        links: how; images that are in an archive, or are boxes, are written as files in any case.
        by_stem: whether names have to differ without their endings.
    """

    def __init__(self, part: Path | None, links: Links, *, by_stem: bool = False) -> None:
        self._part, self._links, self._by_stem = part, links, by_stem
        self._names = UniqueNames()

    def place(self, location: ImageLocation, name: PurePosixPath, number: int) -> str:
        """Put an image there.

        Args:
            location: of the image.
            name: of the file in the folder, as it would best be; each part is made safe.
            number: of the image, no two of which have the same one.

        Returns:
            The name of the file in the folder, with ``/`` between its parts.

        Raises:
            ImageError: the image is not there, or cannot be read.
            StorageError: the file cannot be written, or linked.
        """
        is_file = not location.member and location.box is None
        # before a name is taken: an image that is not there needs none
        data = None if is_file or self._part is None else location.sample().read()
        if is_file and not location.file.is_file():
            raise ImageError(f"there is no image {str(location.file)!r} any more", remedy="Label the folder again")
        safe = "/".join(map(safe_name, name.parts))
        if location.box is not None:
            position = "_".join(f"{value:g}" for value in location.box)
            safe = f"{safe.removesuffix(name.suffix)}_{position}{_suffix(data) or '.png'}"
        elif name.suffix.lower() not in IMAGE_EXTENSIONS:
            safe += _suffix(_head(location.file) if is_file else data)
        suffix = PurePosixPath(safe).suffix if self._by_stem else ""
        placed = self._names.claim(safe.removesuffix(suffix), number) + suffix
        if self._part is not None:
            target = self._part / placed
            with storage_errors(target, "write"):
                target.parent.mkdir(parents=True, exist_ok=True)
            if data is not None:
                with storage_errors(target, "write"):
                    target.write_bytes(data)
            else:
                self._link(location.file, target)
        return placed

    def _link(self, source: Path, target: Path) -> None:
        if self._links == "copy":
            _copy(source, target)
            return
        try:
            if self._links == "hard":
                # the file itself, if the source is a symbolic link
                os.link(os.path.realpath(source), target)
            else:
                target.symlink_to(source)
        except OSError as error:
            if error.errno not in _NO_LINKS and getattr(error, "winerror", None) is None:
                with storage_errors(target, "write"):
                    raise
            kind = "hard links to files there" if self._links == "hard" else "symbolic links"
            raise StorageError(
                f"cannot link {str(source)!r} into {str(target.parent)!r}: {kind} are not possible",
                remedy="Give --links copy, or a place on the same disk with --to",
            ) from error


def _copy(source: Path, target: Path) -> None:
    try:
        stream = source.open("rb")
    except OSError as error:
        raise ImageError(f"cannot read the image {str(source)!r}", remedy="Check its permissions") from error
    with stream, storage_errors(target, "write"), target.open("xb") as copied:
        shutil.copyfileobj(stream, copied, 1 << 20)


def _head(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:
        return None


def _suffix(data: bytes | None) -> str:
    """The ending for the file of an encoded image; empty if that is not known."""
    actual = None if data is None else file_format(data[:HEAD_BYTES])
    name = "" if actual is None else actual.name
    return next((extension for word, extension in _EXTENSIONS.items() if word in name), "")


def relative_name(file: Path, root: Path) -> str:
    """The path of a file below a folder, with ``/`` between its parts.

    Raises:
        UsageError: it is not below it.
    """
    try:
        return file.relative_to(root).as_posix()
    except ValueError:
        raise UsageError(
            f"the image {str(file)!r} is not below the root {str(root)!r}",
            remedy="Name a folder that contains all images with --root, or leave it out",
        ) from None
