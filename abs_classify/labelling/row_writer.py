"""Rows of a run on their way to its folder: what is known already, what is stored when, and what has vanished."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from abs_classify.labelling.judge import Thresholds
from abs_classify.labelling.label_folder import KnownRow, LabelFolder, RowOrder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import LabelRow
from abs_classify.labelling.tables import TableFormat, TableWriter
from abs_classify.sharding import SourceShare
from abs_core.errors import ResultError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from abs_classify.labelling.sources import ListedImage

__all__ = ["THRESHOLD", "RowWriter", "is_complete", "read_share"]

#: the fact of a folder that has the threshold of the confidence that the user set; None where nobody did
THRESHOLD = "threshold"

# rows and seconds after which rows are stored
_STORED_AT_ONCE, _STORE_INTERVAL = 512, 1.0

# rows that are looked at together for what has vanished
_STEP = 2000

# the fact of a folder that says which share it is of, and whether that is complete
_SHARE, _COMPLETE = "share", "complete"

_GONE, _NO_MEMBER = "the file is no longer there", "the archive no longer contains it"
_READABLE, _NO_LINE = "the archive can be read now", "the table no longer has the line"


def read_share(folder: LabelFolder) -> SourceShare | None:
    """The share of images that a folder is of; None of all images, or before they were listed.

    Raises:
        ResultError: what the folder says is damaged.
    """
    value = folder.fact(_SHARE)
    if value is None:
        return None
    try:
        return SourceShare.from_json(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(
            f"{str(folder.path)!r} does not say which share of the images it is of", remedy="Label into another folder"
        ) from error


def is_complete(folder: LabelFolder) -> bool:
    """Whether all images of the share have a row."""
    value = folder.fact(_SHARE)
    return isinstance(value, dict) and value.get(_COMPLETE) is True


class RowWriter:
    """Finds out which images lack a row, and keeps the rows of a run.

    ``lacking`` may be called from another thread than the rest.

    Args:
        folder: of the run, which this process has locked.
        formats: of the tables that are made of its rows.
        order: in which the finished tables have the rows; while the run goes on they have that of arrival.
        thresholds: give rows that there are already their status.
        generation: of the labels; rows of an earlier one count as lacking.
        threshold: of the confidence, as the user set it, which the folder keeps; None where nobody did.
    """

    def __init__(
        self,
        folder: LabelFolder,
        formats: Sequence[TableFormat],
        thresholds: Thresholds,
        *,
        order: RowOrder = "arrival",
        generation: int = 0,
        threshold: float | None = None,
    ) -> None:
        self.folder = folder
        self._tables = [TableWriter(folder, name, order=order) for name in dict.fromkeys(formats)]
        self._thresholds, self.generation, self._threshold = thresholds, generation, threshold
        self._waiting: dict[bytes, tuple[ListedImage, LabelRow]] = {}
        self._stored_at = time.monotonic()
        # a bit for each row that this run has met; two threads set bits of one byte
        self._seen, self._seeing = bytearray(), threading.Lock()
        # archives of which whole images were listed, and those that could not be read to their end
        self._archives: set[Path] = set()
        self._broken: set[Path] = set()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder for the time of the block, and make its tables agree with its rows; store what waits.

        Raises:
            UsageError: another process is labelling into it.
            StorageError: it cannot be written.
        """
        with self.folder.locked():
            self.folder.prepare()
            self.folder.set_fact(THRESHOLD, self._threshold)
            self.folder.judge(self._thresholds.confidence, self._thresholds.known, self._thresholds.reasons)
            with ExitStack() as stack:
                for table in self._tables:
                    stack.enter_context(table)
                try:
                    yield
                finally:
                    self.flush()

    def begin_share(self, share: SourceShare) -> None:
        """Remember which share of which images the folder is of.

        Raises:
            UsageError: the images are others than when the folder was begun, so that the share would be another one.
        """
        kept = read_share(self.folder)
        if kept is None:
            self._keep_share(share, is_complete=False)
        elif kept != share:
            raise UsageError(
                f"{str(self.folder.path)!r} is of share {kept} of {kept.images} images, and now there are "
                f"{share.images}, or others: the shares of the new list are other images",
                remedy="Give another folder with --out; what was computed is in the cache",
            )

    def end_share(self, share: SourceShare) -> None:
        """Remember that all images of the share have a row."""
        self._keep_share(share, is_complete=True)

    def _keep_share(self, share: SourceShare, *, is_complete: bool) -> None:
        self.folder.set_fact(_SHARE, {**share.as_json(), _COMPLETE: is_complete})

    def lacking(self, images: Sequence[ListedImage]) -> list[ListedImage]:
        """The images without a row that still holds: new, changed, not read before, or of an earlier generation."""
        lacking = []
        for image, known in zip(images, self.folder.known([image.key for image in images]), strict=True):
            self._note_archive(image)
            if known is not None and self._holds(image, known):
                self._see(known.number)
            else:
                lacking.append(image)
        return lacking

    def _note_archive(self, image: ListedImage) -> None:
        inside = image.inside
        if inside is None:
            # the row behind the images of an archive that cannot be read to its end
            if image.problem and image.location.file in self._archives:
                self._broken.add(image.location.file)
        elif inside.member and inside.box is None and not inside.dataset and not image.problem:
            self._archives.add(inside.file)

    def _holds(self, image: ListedImage, known: KnownRow) -> bool:
        is_same = known.stamp == image.stamp and known.generation == self.generation
        # what is no image will be none again, but what could not be read may be readable now
        is_final = bool(known.image_id) or (known.status == "failed" and bool(image.problem))
        return is_same and known.status != "vanished" and is_final

    def _see(self, number: int) -> None:
        byte, bit = divmod(number, 8)
        with self._seeing:
            if byte >= len(self._seen):
                self._seen.extend(bytes(byte + 1 - len(self._seen) + len(self._seen) // 4))
            self._seen[byte] |= 1 << bit

    def _was_seen(self, number: int) -> bool:
        byte, bit = divmod(number, 8)
        return byte < len(self._seen) and bool(self._seen[byte] & 1 << bit)

    def add(self, image: ListedImage, row: LabelRow) -> None:
        """Keep a row; it is stored with those that follow within a second."""
        self._waiting[image.key] = image, row
        if len(self._waiting) >= _STORED_AT_ONCE or time.monotonic() - self._stored_at >= _STORE_INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Store the rows that wait, first in the database: the next run makes tables right that lack some.

        Raises:
            StorageError: they cannot be written; rows that were stored before stay.
        """
        self._stored_at = time.monotonic()
        if not self._waiting:
            return
        entries = [(key, image.stamp, row) for key, (image, row) in self._waiting.items()]
        numbers = self.folder.store(entries, self.generation)
        self._waiting.clear()  # before the tables, where an interrupted line would be written twice
        for number in numbers:
            self._see(number)
        for table in self._tables:
            table.append(numbers, [row for _, _, row in entries])

    def mark_vanished(self) -> int:
        """Mark the rows whose images were not met and are not there any more; how many there are.

        What lies in places that were not named this time, and is still there, is left as it is.
        """
        self.flush()
        number, marked = 0, 0
        while rows := self.folder.statuses_after(number, _STEP):
            unseen = [row for row, status in rows if status != "vanished" and not self._was_seen(row)]
            locations = self.folder.locations(unseen).items() if unseen else ()
            gone = {row: reason for row, location in locations if (reason := self._reason(location))}
            for reason in dict.fromkeys(gone.values()):
                numbers = [row for row, why in gone.items() if why == reason]
                self.folder.mark_vanished(numbers, reason)
                marked += len(numbers)
            number = rows[-1][0]
        return marked

    def _reason(self, location: ImageLocation) -> str:
        """Why an image that was not met is gone; empty if it may be there."""
        # the row of a line without a path is named by its table and its number
        file, line, _ = os.fspath(location.file).partition("\0")
        try:
            os.lstat(file)
        except (FileNotFoundError, NotADirectoryError):
            return _GONE
        except OSError:
            return ""
        # a run with boxes lists no whole images, one without lists no boxes, and a data set may list some of its images
        if location.box is None and not location.dataset and location.file in self._archives - self._broken:
            return _NO_MEMBER if location.member else _READABLE
        return _NO_LINE if line else ""
