"""What the user names as the images to label, to a stream of images. Imports no torch and opens no image."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from abs_classify.datasets.folders import special_kind
from abs_classify.labelling.folder_walk import FolderWalk, stamp_of
from abs_classify.labelling.locations import ImageLocation, ListedImage
from abs_core.errors import UsageError
from abs_core.remarks import RemarkCounter
from abs_core.text import quoted, valid_unicode

__all__ = ["ImageSources", "ListedImage"]


class ImageSources:
    """The images that a user names: folders, files, lists, tables, archives, data sets.

    Iterating lists them in a fixed order: source by source, a folder by the bytes of its names, what only links to
    folders lead to at the end. An image that several sources name comes several times, with the same key. Nothing is
    kept of what was listed, so there may be any number of images.

    Args:
        places: the sources as the user wrote them.
        boxes: a file or folder of boxes; each box is an image then.
        stdin: where the source ``-`` reads names; it can be read once.
        exclude: folders that are not entered, such as that of the results.

    Attributes:
        remarks: what was left out or guessed, counted by reason. Grows while the images are listed.

    Raises:
        UsageError: a source does not exist, or there is none.
    """

    def __init__(
        self,
        places: Sequence[str | Path],
        *,
        boxes: Path | None = None,
        stdin: BinaryIO | None = None,
        exclude: Sequence[Path] = (),
    ) -> None:
        if not places:
            raise UsageError("there is no source of images", remedy="Name a folder, files, a list or an archive")
        self._places = [os.fsencode(place) for place in places]
        self._boxes, self._stdin = boxes, stdin
        self._exclude = tuple(exclude)
        self.remarks = RemarkCounter()
        for place in self._places:
            if not os.path.lexists(place):
                raise UsageError(
                    f"the source {quoted(os.fsdecode(place), 300)} does not exist",
                    remedy="Check the path; name a folder, files, a list or an archive",
                )

    def __iter__(self) -> Iterator[ListedImage]:
        self.remarks = RemarkCounter()
        walk = FolderWalk(self.remarks, self._exclude)
        for place in self._places:
            path = os.path.abspath(place)  # noqa: PTH100
            if os.path.isdir(path):  # noqa: PTH112
                yield from walk.images(path, place)
            else:
                yield _named_file(path, place)
        yield from walk.linked()

    def count_estimate(self) -> int | None:
        """About how many images there are, by names alone; None where only reading would tell."""
        walk = FolderWalk(RemarkCounter(), self._exclude)
        return sum(walk.count(os.path.abspath(place)) if os.path.isdir(place) else 1 for place in self._places)  # noqa: PTH100, PTH112


def _named_file(path: bytes, shown: bytes) -> ListedImage:
    """A file that is named, which is an image whatever it contains."""
    stamp, problem = "", ""
    try:
        status = os.stat(path)  # noqa: PTH116
        if stat.S_ISREG(status.st_mode):
            stamp = stamp_of(status)
        else:
            problem = f"{special_kind(status.st_mode)}, not a file"
    except (OSError, ValueError) as error:
        problem = (getattr(error, "strerror", None) or str(error)).lower()
    text = valid_unicode(os.fsdecode(shown))
    return ListedImage(text, path, ImageLocation(Path(os.fsdecode(path))), stamp, problem)
