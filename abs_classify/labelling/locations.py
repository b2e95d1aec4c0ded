"""Where an image is, in a form that outlives the run: its file, its place in an archive, its box. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from abs_classify.datasets.base import Sample

__all__ = ["ImageLocation", "ListedImage"]


@dataclass(frozen=True, slots=True)
class ImageLocation:
    """Where an image is.

    Attributes:
        file: the absolute path of its file, or of the archive, shard or table that contains it.
        member: its name in that file; empty if the file is the image.
        box: x, y, width and height in pixels of the upright image, if only a part of it is meant.
    """

    file: Path
    member: str = ""
    box: tuple[float, float, float, float] | None = None

    def sample(self) -> Sample:
        """The image, to be read.

        Raises:
            ImageError: it is not there any more.
        """
        return Sample(self.file, "")

    def as_json(self) -> dict[str, Any]:
        """The location as JSON values; the bytes of a path that are no text are kept."""
        value: dict[str, Any] = {"file": quote_from_bytes(os.fsencode(self.file), safe="/ ")}
        if self.member:
            value["member"] = quote_from_bytes(os.fsencode(self.member), safe="/ ")
        if self.box is not None:
            value["box"] = list(self.box)
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ImageLocation:
        """The location that ``as_json`` gave."""
        box = value.get("box")
        return cls(
            Path(os.fsdecode(unquote_to_bytes(value["file"]))),
            os.fsdecode(unquote_to_bytes(value.get("member", ""))),
            None if box is None else (box[0], box[1], box[2], box[3]),
        )


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image that the sources name.

    Attributes:
        path: as shown: the source as the user gave it, joined with the rest, with ``::NAME`` for an image in an archive
            and ``#xywh=X,Y,W,H`` for a box. Valid Unicode; anything else may be in it.
        key: the same for the same image, however the source was spelt and whatever the working directory: the absolute
            path, and behind a zero byte its name in that file and its box. Links to folders are not resolved.
        location: where it is.
        stamp: changes if the image may have changed: size and times of its file, or of what contains it; empty where
            there is no file.
        problem: why it cannot be read, if listing it told already. It is a row all the same.
    """

    path: str
    key: bytes
    location: ImageLocation
    stamp: str
    problem: str = ""
