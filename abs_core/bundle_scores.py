"""What each sentence and each class of a bundle wins and costs on given images.

``abs_classify`` computes it, ``abs_descriptions`` shows it in reviews; a file of it may come from anywhere, so it is
checked like everything from outside.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from abs_core.canonical import canonical_json
from abs_core.errors import BundleError, StorageError, UsageError
from abs_core.files import atomic_write, storage_errors
from abs_core.result_tables import data_frame, html_table
from abs_core.text import counted, printable, quoted, validation_message

__all__ = ["BundleScores", "ClassScore", "ExampleImage", "Interval", "NetGain", "PulledImages", "SentenceScore"]

_MAX_FILE_BYTES = 1 << 30
_MAX_TEXT = 4000
_MAX_THUMBNAIL = 64 * 1024

# sentences that a notebook shows
_SHOWN = 10

_COLUMNS = (
    "class",
    "name",
    "text",
    "gain",
    "gain_low",
    "gain_high",
    "won",
    "lost",
    "margin",
    "changed",
    "usage",
    "is_only",
)

_PINNED = re.compile(r"#sha256:([0-9a-f]{16})[0-9a-f]{48}$")

_Text = Annotated[str, Field(max_length=_MAX_TEXT)]
_Count = Annotated[int, Field(ge=0)]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"must be finite, got {value}")
    return value


_Number = Annotated[float, AfterValidator(_finite)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Interval(_Part):
    """An interval of 95 %."""

    low: _Number
    high: _Number


class NetGain(_Part):
    """Of the same images, how many are right with something and wrong without it, and the reverse.

    Attributes:
        won: right with it, wrong without it.
        lost: wrong with it, right without it.
        images: all that were compared.
        interval: of (won - lost) / images, in points of top-1, 95 %, paired (Newcombe 1998, method 10).
    """

    won: _Count
    lost: _Count
    images: _Count
    interval: Interval

    @property
    def points(self) -> float:
        """(won - lost) / images in points of top-1; 0 without images."""
        return 100.0 * (self.won - self.lost) / self.images if self.images else 0.0


class PulledImages(_Part):
    """Images of one other class that get the sentence's class with it, and another one without it.

    Attributes:
        class_id: the true class.
        images: how many.
    """

    class_id: _Text
    images: _Count


class SentenceScore(_Part):
    """What one sentence wins and costs: every image is classified with it and without it.

    Attributes:
        class_id, text: which sentence.
        is_only: whether it is its class's only sentence, so that there is no "without it"; then only ``usage`` counts.
        gain: over all images; None without true classes, or if ``is_only``.
        margin: by how much it raises the margin of its own class over the best other one, the mean over the images of
            its class, in units of the method's score; None where there is none.
        changed: images that get another label without it, whatever is true.
        usage: its share of the weight that all sentences have in the scores, in [0, 1].
        pulled: images of other classes that it pulls in, most first.
        examples: positions in ``BundleScores.examples`` of images that it won or lost, or that use it most.
    """

    class_id: _Text
    text: _Text
    is_only: bool = False
    gain: NetGain | None = None
    margin: _Number | None = None
    changed: _Count = 0
    usage: Annotated[float, Field(ge=0, le=1)] = 0.0
    pulled: tuple[PulledImages, ...] = ()
    examples: tuple[_Count, ...] = ()


class ClassScore(_Part):
    """What the sentences of one class win and cost together.

    Attributes:
        class_id: the class.
        name: its name.
        images: with this class as the true one; without true classes, with this label.
        right: of these, how many get this label; None without true classes.
        over_name: over all images, its sentences against its name alone ("a photo of a {class}."), everything else as
            it is; None without true classes.
        confused: other classes and how many images: of this true class with that label; without true classes, of this
            label with that class second. Most first.
    """

    class_id: _Text
    name: _Text
    images: _Count
    right: _Count | None = None
    over_name: NetGain | None = None
    confused: tuple[PulledImages, ...] = ()


class ExampleImage(_Part):
    """An image to show beside sentences.

    Attributes:
        path: as the source names it.
        true_class: its class id; None if that is not known.
        label: the class id that it gets with all sentences.
        thumbnail: a JPEG, base64; empty if the image could not be drawn.
    """

    path: _Text
    true_class: _Text | None
    label: _Text
    thumbnail: Annotated[str, Field(max_length=_MAX_THUMBNAIL)] = ""

    @model_validator(mode="after")
    def _check_thumbnail(self) -> Self:
        try:
            data = base64.b64decode(self.thumbnail, validate=True)
        except binascii.Error:
            raise ValueError("the thumbnail is not base64") from None
        if data and not data.startswith(b"\xff\xd8\xff"):
            raise ValueError("the thumbnail is no JPEG")
        return self


class BundleScores(_Part):
    """What every sentence and every class of one bundle wins and costs on given images.

    Attributes:
        bundle: its pinned reference.
        source: the data set or folder.
        has_truth: whether true classes were known.
        method, model: which row, and which image-text model, with their digests where they have one.
        images: how many were classified; ``right``: of these, how many with the true class (None without).
        classes: in the order of the bundle.
        sentences: in the order of the bundle.
        examples: images that sentences name.
        created: UTC, ``2025-01-31T12:00:00Z``.
        remarks: what must be said beside the numbers.
    """

    format: Literal["abs-bundle-scores"] = "abs-bundle-scores"
    format_version: Literal[1] = 1
    bundle: _Text
    source: _Text
    has_truth: bool
    method: _Text
    model: _Text
    images: _Count
    right: _Count | None = None
    classes: tuple[ClassScore, ...]
    sentences: tuple[SentenceScore, ...]
    examples: tuple[ExampleImage, ...] = ()
    created: _Text
    remarks: tuple[_Text, ...] = ()

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        last = max((number for sentence in self.sentences for number in sentence.examples), default=-1)
        if last >= len(self.examples):
            raise ValueError(f"there is no example {last}")
        return self

    def __repr__(self) -> str:
        images = counted(self.images, "image", "images")
        right = "" if self.right is None else f", {self.right} right"
        what = counted(len(self.sentences), "sentence", "sentences")
        return f"<BundleScores: {what} of {self.bundle!r} on {images}{right}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        """The sentences that cost most and those that win most; without true classes, those that are used most."""
        rows = self._rows()
        if self.has_truth:
            rows = sorted((row for row in rows if row["gain"] is not None), key=lambda row: float(row["gain"]))
            shown = rows if len(rows) <= 2 * _SHOWN else [*rows[:_SHOWN], *rows[-_SHOWN:]]
            columns: tuple[str, ...] = ("name", "text", "gain", "gain_low", "gain_high", "usage")
        else:
            shown = sorted(rows, key=lambda row: -float(row["usage"]))[: 2 * _SHOWN]
            columns = ("name", "text", "usage", "changed")
        cells = [
            [f"{row[name]:.4g}" if isinstance(row[name], float) else row[name] for name in columns] for row in shown
        ]
        of = f", {len(shown)} of {len(rows)} sentences" if len(shown) < len(rows) else ""
        return html_table(f"{self.bundle} on {self.source}{of}", columns, cells)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as its file has them."""
        return self.model_dump(mode="json")

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: a row for each sentence; gains in points of top-1, with their 95 % interval.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame(self._rows(), _COLUMNS)

    def _rows(self) -> list[dict[str, Any]]:
        names = {score.class_id: score.name for score in self.classes}
        rows = []
        for score in self.sentences:
            gain = score.gain
            of_gain = (
                (None,) * 5 if gain is None
                else (gain.points, gain.interval.low, gain.interval.high, gain.won, gain.lost)
            )  # fmt: skip
            values = (
                score.class_id, names.get(score.class_id, score.class_id), score.text, *of_gain, score.margin,
                score.changed, score.usage, score.is_only,
            )  # fmt: skip
            rows.append(dict(zip(_COLUMNS, values, strict=True)))
        return rows

    @cached_property
    def by_sentence(self) -> dict[tuple[str, str], SentenceScore]:
        """Class id and text to the score of the sentence."""
        return {(sentence.class_id, sentence.text): sentence for sentence in self.sentences}

    @staticmethod
    def path_in(folder: Path, bundle: str) -> Path:
        """The file in a folder, such as ``Home.scores``, for the scores of a bundle.

        Args:
            folder: of the files.
            bundle: a pinned reference, ``name@version#sha256:...``.

        Raises:
            UsageError: the reference has no digest.
        """
        match = _PINNED.search(bundle)
        if match is None:
            raise UsageError(
                f"the bundle must be pinned as name@version#sha256:..., got {quoted(bundle)}",
                remedy="Name a bundle of the store, or a bundle file",
            )
        return folder / f"{match[1]}.json"

    def write(self, path: Path) -> None:
        """Write the file, and its folder where there is none.

        Raises:
            StorageError: it cannot be written.
        """
        with atomic_write(path) as stream:
            stream.write(canonical_json(self.model_dump(mode="json")).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> BundleScores:
        """Read a file.

        Raises:
            BundleError: it holds no such scores.
            StorageError: it cannot be read, or is larger than 1 GiB.
        """
        shown = printable(str(path))
        with storage_errors(path, "read"):
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise StorageError(f"{shown} is larger than 1 GiB", remedy="Name a file that `abs bundle score` wrote")
            data = path.read_bytes()
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise BundleError(
                f"{shown} holds no scores of a bundle: {quoted(validation_message(error), 300)}",
                remedy="Name a file that `abs bundle score` wrote",
            ) from None
