"""What must be said of the images of an evaluation, from what is known of each. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from abs_core.text import counted

__all__ = ["ImageSizes", "absent_classes_notes", "copies_notes"]


def absent_classes_notes(competing: Sequence[str], used: Collection[str]) -> list[str]:
    """A note on candidate classes without any image.

    Args:
        competing: ids of the classes of the data set that an image can get.
        used: those that images have.
    """
    empty = [class_id for class_id in competing if class_id not in used]
    if not empty:
        return []
    return [
        f"{counted(len(empty), 'class has', 'classes have')} no image here, such as {empty[0]!r}: they "
        "compete, and the mean recall is over the others"
    ]


def copies_notes(images: Sequence[tuple[str, str, str]]) -> list[str]:
    """Notes on images with the same bytes.

    Args:
        images: of each its id, its label and its name, in order.
    """
    counts = Counter(image_id for image_id, _, _ in images)
    labels: dict[str, dict[str, str]] = {}
    for image_id, label, name in images:
        if counts[image_id] > 1:
            labels.setdefault(image_id, {}).setdefault(label, name)
    if not labels:
        return []
    extra = sum(counts[image_id] - 1 for image_id in labels)
    notes = [f"{counted(extra, 'image is a copy', 'images are copies')} of another, byte for byte; each counts"]
    conflict = next((by_label for by_label in labels.values() if len(by_label) > 1), None)
    if conflict is not None:
        both = " and ".join(f"{name!r} is {label!r}" for label, name in list(conflict.items())[:2])
        notes.append(f"copies of one image have different labels, so one of them is always wrong: {both}")
    return notes


@dataclass(frozen=True)
class ImageSizes:
    """How many images have fewer pixels than the model's input, whose crops have hardly any.

    Attributes:
        images: how many there are.
        tiny: of these, those whose crops are the full image.
        small: those whose crops are enlarged.
        input_size: pixels that the model sees on each side.
        methods: names of those that look at crops; none where sizes do not matter.
    """

    images: int
    tiny: int
    small: int
    input_size: int
    methods: tuple[str, ...]

    @classmethod
    def sum(cls, parts: Iterable[ImageSizes]) -> ImageSizes:
        """Of several shares of images, at least one, that one model and the same methods saw."""
        sizes = list(parts)
        return cls(
            sum(part.images for part in sizes),
            sum(part.tiny for part in sizes),
            sum(part.small for part in sizes),
            sizes[0].input_size,
            sizes[0].methods,
        )

    def notes(self) -> list[str]:
        """What a reader of the results should know."""
        if not self.methods:
            return []
        total, methods = counted(self.images, "image", "images"), ", ".join(self.methods)
        notes = []
        if self.tiny:
            notes.append(
                f"{self.tiny} of {total} have a long side below a quarter of the {self.input_size} pixels that the "
                f"model sees: for {methods} each crop of them is the full image, since smaller ones would only lose "
                "detail"
            )
        if self.small:
            notes.append(
                f"{self.small} of {total} are smaller than the {self.input_size} pixels that the model sees: their "
                f"crops are enlarged and may tell less than the full image; compare {methods} with a method without "
                "crops"
            )
        return notes
