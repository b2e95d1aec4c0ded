"""What images confuse, and whether sentences help: what ``abs_descriptions`` asks of whoever sees the images.

``abs_classify`` implements the protocol, so that descriptions are rewritten without knowing anything of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import JsonValue

from abs_core.bundle_scores import NetGain
from abs_core.descriptions import Descriptions

__all__ = ["Confusion", "ImageHalf", "SentenceJudge"]

#: The labelled images on which sentences are chosen, and those on which what was chosen is tested.
ImageHalf = Literal["choice", "test"]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two classes that images confuse.

    Args:
        first, second: their ids.
        first_as_second: images of ``first`` that get ``second``; without true classes, images that get ``first`` with
            ``second`` close behind.
        second_as_first: the reverse; at most ``first_as_second``.
    """

    first: str
    second: str
    first_as_second: int
    second_as_first: int

    @property
    def images(self) -> int:
        """How many images in all."""
        return self.first_as_second + self.second_as_first


class SentenceJudge(Protocol):
    """Images that tell which classes they confuse and, if their true classes are known, which sentences help.

    With true classes the images are in two halves: what is chosen follows from the one alone, and the other one tests
    what was chosen.
    """

    @property
    def has_truth(self) -> bool:
        """Whether true classes are known."""

    def confusions(self) -> Sequence[Confusion]:
        """The pairs of classes that the images confuse, most images first; with true classes, those of the choice half.

        Raises:
            ImageError, ModelError: an image cannot be read, or the model cannot be used.
        """

    def gains(self, old: Descriptions, new: Sequence[Descriptions], half: ImageHalf) -> Sequence[NetGain]:
        """What each of several sets of descriptions wins and loses against ``old`` on one half of the images.

        Raises:
            UsageError: no true classes are known. ImageError, ModelError: as above.
        """

    def image_ids(self, half: ImageHalf) -> Sequence[str]:
        """The ids of the images of a half."""

    def facts(self) -> Mapping[str, JsonValue]:
        """How was measured, to be stored with what is made of it: method, model, numbers and digests of images."""
