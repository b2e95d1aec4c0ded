"""The classes of a run, and what describes them: where the two libraries meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from abs_cli.console import note
from abs_cli.home import Home
from abs_core.errors import BundleError, DatasetError, LabelError, UnknownNameError, UsageError
from abs_core.paths import exists, is_file
from abs_core.resources import data_folder

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.phrases import Descriptions
    from abs_descriptions.bundle import Bundle
    from abs_descriptions.labels import LabelSet
    from abs_descriptions.store import BundleStore, StoreEntry

__all__ = [
    "Vocabulary",
    "choose_vocabulary",
    "find_bundle",
    "is_bundle_name",
    "label_positions",
    "refuse_shipped",
    "shipped_bundles",
    "warn_of_yank",
]


@dataclass(frozen=True)
class Vocabulary:
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


def choose_vocabulary(home: Home, bundle: str | None, labels: str | None, dataset: Dataset | None) -> Vocabulary:
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
    return Vocabulary(label_set, None, f"labels {label_set.name}#{label_set.digest}")


def label_positions(dataset: Dataset, vocabulary: Vocabulary) -> dict[str, int]:
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


def _resolve(vocabulary: Vocabulary, dataset: Dataset, *labels: str) -> str:
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


def find_bundle(home: Home, reference: str) -> Bundle:
    """A validated bundle by reference, or by path if there is such a file. Says on stderr if it was yanked.

    A file without the ending of bundles gives way to a bundle of its name, unless it is written ./NAME.

    Raises:
        UnknownNameError: no such bundle; lists those that are there.
        BundleError, StorageError: it cannot be read, or breaks a rule.
    """
    from abs_descriptions.bundle import parse_reference, read_bundle
    from abs_descriptions.store import BundleStore

    path = Path(reference)
    if path.suffix == ".jsonl" or (is_file(path) and not is_bundle_name(home, reference)):
        return read_bundle(path)
    store = BundleStore(home.bundles)
    parse_reference(reference)  # a range is refused, whoever could answer it
    name, at, _ = reference.partition("@")
    shipped = shipped_bundles().get(name)
    if shipped is not None and not store.list(name):
        return _pinned(read_bundle(shipped), reference)
    try:
        entry = store.resolve(reference)
    except (UnknownNameError, BundleError) as error:
        # A version of one's own does not hide the shipped one; one of its number does, unless a digest is named.
        is_unknown = isinstance(error, UnknownNameError)
        named = shipped is not None and at and (is_unknown or "#" in reference)
        if shipped is not None and named and _is_named((bundle := read_bundle(shipped)), reference):
            return bundle
        if not is_unknown or store.list(name):
            raise  # the name is there, and the error says which versions of it
        names = sorted({entry.name for entry in store.list()} | shipped_bundles().keys())
        remedy = "See `abs bundle ls`, or write one with `abs gen-descriptions LABELS --name NAME`"
        raise UnknownNameError("bundle", reference, names, remedy=remedy) from error
    warn_of_yank(store, entry)
    return store.read(entry.reference)


def warn_of_yank(store: BundleStore, entry: StoreEntry) -> bool:
    """Whether a version is yanked; if so, stderr says why."""
    yank = store.yank_of(entry)
    if yank is not None:
        note(f"warning: {entry.name}@{entry.version} was yanked: {yank.reason}")
    return yank is not None


def is_bundle_name(home: Home, reference: str) -> bool:
    """Whether the local store, or what ships with the toolkit, has a bundle of the name in a reference."""
    from abs_descriptions.store import BundleStore

    name = reference.partition("@")[0]
    return name in shipped_bundles() or bool(BundleStore(home.bundles).list(name))


def shipped_bundles() -> dict[str, Path]:
    """The bundles that ship with the toolkit: name to file. A bare name means one in the store, if there is any."""
    return {path.name.rpartition("-")[0]: path for path in sorted((data_folder() / "bundles").glob("*.jsonl"))}


def refuse_shipped(home: Home, reference: str) -> None:
    """For what changes or copies versions of the local store.

    Raises:
        UsageError: the reference can only mean a bundle that ships with the toolkit.
    """
    from abs_descriptions.store import BundleStore

    name = reference.partition("@")[0]
    if name in shipped_bundles() and not BundleStore(home.bundles).list(name):
        raise UsageError(
            f"{reference!r} ships with the toolkit and is not in the local store",
            remedy="Name a version of the local store; who has the toolkit has the shipped ones",
        )


def _pinned(bundle: Bundle, reference: str) -> Bundle:
    if not _is_named(bundle, reference):
        raise UnknownNameError("bundle", reference, [bundle.reference])
    return bundle


def _is_named(bundle: Bundle, reference: str) -> bool:
    return f"{bundle.reference}#".startswith((f"{reference}#", f"{reference}@"))


def _from_bundle(home: Home, reference: str) -> Vocabulary:
    from abs_classify.phrases import Description
    from abs_descriptions.labels import ClassName, LabelSet

    bundle = find_bundle(home, reference)
    header = bundle.header
    classes = tuple(ClassName(one.id, one.name) for one in header.label_set.classes)
    descriptions: dict[str, Sequence[Description]] = {
        class_id: [Description(record.text, record.kind) for record in records]
        for class_id, records in bundle.descriptions().items()
    }
    return Vocabulary(LabelSet(header.label_set.name, classes), descriptions, bundle.reference)


def _read_labels(text: str) -> LabelSet:
    from abs_descriptions.labels import from_names, read_labels

    if "," in text and not exists(text):
        return from_names(text.split(","))
    return read_labels(text)


def _of_dataset(dataset: Dataset) -> LabelSet:
    from abs_descriptions.labels import ClassName, LabelSet

    return LabelSet(dataset.name, tuple(ClassName(one.id, one.name) for one in dataset.classes))
