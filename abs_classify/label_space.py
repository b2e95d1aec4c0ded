"""The classes that an image can get, and what describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abs_core.errors import DatasetError, LabelError

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.methods.phrases import Descriptions
    from abs_core.labels import LabelSet

__all__ = ["LabelSpace", "dataset_label_space", "label_positions", "undescribed"]


@dataclass(frozen=True)
class LabelSpace:
    """The classes that an image can get.

    Args:
        labels: the label set; class positions are positions in it.
        descriptions: class id to descriptions, or None without a bundle.
        source: what to print beside every result: a bundle reference with its digest, or the label set's digest.
    """

    labels: LabelSet
    descriptions: Descriptions | None
    source: str

    @property
    def names(self) -> Mapping[str, str]:
        """Class id to class name, in class order."""
        return {one.id: one.name for one in self.labels.classes}


def dataset_label_space(dataset: Dataset) -> LabelSpace:
    """The classes of a data set, without descriptions."""
    from abs_core.labels import ClassLabel, LabelSet

    return undescribed(LabelSet(dataset.name, tuple(ClassLabel(entry.id, entry.name) for entry in dataset.classes)))


def undescribed(labels: LabelSet) -> LabelSpace:
    """The classes of a label set, without descriptions."""
    return LabelSpace(labels, None, f"labels {labels.name}#{labels.digest}")


def label_positions(dataset: Dataset, vocabulary: LabelSpace) -> dict[str, int]:
    """For each label of the data set the position of its class, found by stable id, else by name.

    Raises:
        DatasetError: a class of the data that the vocabulary lacks, or two classes of the data that it takes for one.
    """
    positions = {one.id: at for at, one in enumerate(vocabulary.labels.classes)}
    used = dict.fromkeys(dataset.labels)
    found: dict[str, int] = {}
    taken: dict[int, str] = {}
    for one in dataset.classes:
        if one.id not in used:
            continue
        at = positions[_resolve(vocabulary, dataset, one.id, one.name)]
        if at in taken:
            raise DatasetError(
                f"the classes {taken[at]!r} and {one.id!r} of {dataset.name} are one class in {vocabulary.source}",
                remedy="Give the classes ids of their own",
            )
        taken[at] = one.id
        found[one.id] = at
    return found


def _resolve(vocabulary: LabelSpace, dataset: Dataset, *labels: str) -> str:
    error: LabelError | None = None
    for label in labels:
        try:
            return vocabulary.labels.resolve(label).id
        except LabelError as found:
            error = found
    assert error is not None  # there is at least one label
    raise DatasetError(
        f"the data set {dataset.name} has the class {labels[0]!r}, which {vocabulary.source} lacks",
        remedy=error.remedy or "Use a bundle for these classes, or write one with `abs gen-descriptions`",
    ) from error
