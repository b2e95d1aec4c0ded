"""The classes of a run, and what describes them: where the two libraries meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from abs_core.errors import DatasetError, LabelError, UsageError
from abs_core.files import exists
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.methods.phrases import Descriptions
    from abs_core.labels import LabelSet

__all__ = ["LabelSpace", "choose_label_space", "label_positions"]


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


def choose_label_space(home: Home, bundle: str | None, labels: str | None, dataset: Dataset | None) -> LabelSpace:
    """The classes from a bundle, from labels, or from the data set itself, in this order.

    Args:
        home: has the bundle store.
        bundle: a bundle reference, ``name``, ``name@version`` or ``name@version#sha256:...``, or a path to a file.
        labels: a comma-separated list, a label file, or the name of a shipped label set.
        dataset: whose classes count where neither is given.

    Raises:
        UsageError: both a bundle and labels, or nothing at all.
        UnknownNameError, BundleError, LabelError: what is named cannot be used.
    """
    if bundle is not None and labels is not None:
        raise UsageError("--bundle and --labels both name the classes", remedy="Give one of them")
    if bundle is not None:
        return _from_bundle(home, bundle)
    if labels is not None:
        label_set = _read_labels(labels)
    elif dataset is not None:
        label_set = _of_dataset(dataset)
    else:
        raise UsageError("nothing says which classes there are", remedy="Give --bundle NAME or --labels 'cat,dog,car'")
    return LabelSpace(label_set, None, f"labels {label_set.name}#{label_set.digest}")


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


def _from_bundle(home: Home, reference: str) -> LabelSpace:
    from abs_classify.methods.phrases import ClassDescription
    from abs_core.labels import ClassLabel, LabelSet

    bundle = find_bundle(home, reference)
    header = bundle.header
    classes = tuple(ClassLabel(one.id, one.name) for one in header.label_set.classes)
    descriptions: dict[str, Sequence[ClassDescription]] = {
        class_id: [ClassDescription(record.text, record.kind) for record in records]
        for class_id, records in bundle.descriptions().items()
    }
    return LabelSpace(LabelSet(header.label_set.name, classes), descriptions, bundle.reference)


def _read_labels(text: str) -> LabelSet:
    from abs_core.labels import from_names, read_labels

    if "," in text and not exists(text):
        return from_names(text.split(","))
    return read_labels(text)


def _of_dataset(dataset: Dataset) -> LabelSet:
    from abs_core.labels import ClassLabel, LabelSet

    return LabelSet(dataset.name, tuple(ClassLabel(one.id, one.name) for one in dataset.classes))
