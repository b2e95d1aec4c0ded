"""cleanlab: ``labels.npy`` and ``pred_probs.npy``, with ``images.csv`` for which image a row is of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace
from abs_classify.labelling.exporters.labels import ImageLabel
from abs_classify.labelling.rows import LabelRow
from abs_classify.labelling.tables import csv_line
from abs_core.text import json_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CleanlabFormat", "spread_ranking"]

_STEP = 512

# bytes of the header of an array whose length is not known yet
_HEADER = 128


class CleanlabFormat(ExportFormat):
    """What cleanlab looks for label errors in: given labels, and the class probabilities that the model predicts.

    ``labels.npy`` [n] int64 has the labels in effect as class numbers in the order of ``classes.json``, and
    ``pred_probs.npy`` [n, C] float32 the model's probabilities. Rows keep the best classes only: where nothing else is
    known, what these leave is spread evenly over the other classes.
    """

    name = "cleanlab"
    sizes = "nothing"
    media = ""
    has_boxes = False
    opening = (
        "find_label_issues(numpy.load('{folder}/labels.npy'), numpy.load('{folder}/pred_probs.npy', mmap_mode='r')) of "
        "cleanlab.filter; rows are named in {folder}/images.csv"
    )

    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """See ``ExportFormat``."""
        classes = [
            {"number": number, "id": label.id, "name": name}
            for number, (label, name) in enumerate(zip(place.classes, place.names, strict=True))
        ]
        with place.create("classes.json") as stream:
            stream.write(json_text(classes).encode())
        entries = ((image, label) for image in images for label in image.labels)
        with (
            place.create("images.csv") as listing,
            _ArrayFile(place, "labels.npy", np.dtype("<i8"), ()) as labels,
            _ArrayFile(place, "pred_probs.npy", np.dtype("<f4"), (len(place.classes),)) as probabilities,
        ):
            listing.write(csv_line(("row", "path", "image_id", "label", "label_id", "source", "status")).encode())
            count = 0
            while group := list(islice(entries, _STEP)):
                labels.add(np.array([label.position for _, label in group], dtype=np.int64))
                probabilities.add(_probabilities([label.row for _, label in group], place))
                for image, label in group:
                    listing.write(csv_line(_cells(count, image, label, place)).encode())
                    count += 1


def _cells(number: int, image: ExportedImage, label: ImageLabel, place: ExportPlace) -> Iterator[str]:
    yield str(number)
    # an image in an archive and a box are not their file
    is_file = label.location.box is None and not label.location.member
    yield str(image.file) if is_file else label.row.path
    yield label.row.image_id
    yield place.names[label.position]
    yield place.classes[label.position].id
    yield "model" if label.decision is None else "reviewer"
    yield label.status


def _probabilities(rows: Sequence[LabelRow], place: ExportPlace) -> NDArray[np.float32]:
    spread = spread_ranking(rows, len(place.classes))
    if place.probabilities is None:
        return spread
    known = place.probabilities(rows)
    return np.where(np.isnan(known), spread, known)


def spread_ranking(rows: Sequence[LabelRow], classes: int) -> NDArray[np.float32]:
    """Class probabilities by the best classes that rows keep, what is left spread evenly over the others.

    Args:
        rows: of which each has a ranking.
        classes: how many there are.

    Returns:
        [rows, classes], each row with the sum 1.
    """
    array = np.zeros((len(rows), classes))
    for values, row in zip(array, rows, strict=True):
        kept = [entry.position for entry in row.ranking]
        values[kept] = [entry.confidence for entry in row.ranking]
        others = classes - len(kept)
        if others:
            is_other = np.ones(classes, dtype=bool)
            is_other[kept] = False
            values[is_other] = max(0.0, 1.0 - float(values.sum())) / others
    total = array.sum(axis=1, keepdims=True)
    return (array / np.where(total > 0, total, 1.0)).astype(np.float32)


class _ArrayFile:
    """A file of numpy that grows: its header is written again when the length is known."""

    def __init__(self, place: ExportPlace, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._file = place.create(name)
        self._dtype, self._shape, self._count = dtype, shape, 0

    def __enter__(self) -> _ArrayFile:
        self._stream: IO[bytes] = self._file.__enter__()
        self._stream.write(self._header())
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self._stream.seek(0)
            self._stream.write(self._header())
        self._file.__exit__(*error)

    def add(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        self._stream.write(np.ascontiguousarray(rows, dtype=self._dtype).tobytes())
        self._count += len(rows)

    def _header(self) -> bytes:
        shape = (self._count, *self._shape)
        text = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': {shape!r}, }}"
        magic = np.lib.format.magic(1, 0)
        length = _HEADER - len(magic) - 2
        return bytes(magic + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n")
