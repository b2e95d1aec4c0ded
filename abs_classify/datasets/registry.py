"""The registry of data sets: a spec such as ``imagefolder:./val`` or ``dtd:./dtd`` in, labelled images out.

A new kind of data set is a module with one opening function and a row in ``KINDS``; a new benchmark is a declaration in
``catalogue``. Labels are class ids as the data set has them, for a benchmark those of ``data/labels``; the caller
matches them with the classes of a bundle. Imports no torch. Nothing is downloaded unless a spec names a folder for it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from abs_classify.datasets.base import Dataset, Sample, existing_path
from abs_classify.datasets.benchmarks.base import Benchmark
from abs_classify.datasets.benchmarks.catalogue import BENCHMARKS
from abs_classify.datasets.benchmarks.diagnosis import DatasetReport, check_benchmark, check_opening, open_benchmark
from abs_classify.datasets.demo import open_demo
from abs_classify.datasets.imagefolder import open_imagefolder
from abs_classify.datasets.lists import open_jsonl, open_table
from abs_classify.datasets.parquet import open_parquet
from abs_classify.datasets.webdataset import open_shards
from abs_classify.plugins import entry_source, failure_text, record_entry
from abs_core.class_names import translated_names
from abs_core.errors import AbsError, DatasetError, UnknownNameError, UsageError
from abs_core.labels import ClassLabel, compact
from abs_core.text import quoted

__all__ = [
    "KINDS",
    "DatasetKind",
    "available_datasets",
    "check_dataset",
    "dataset_kinds",
    "find_kind",
    "open_dataset",
    "register_dataset",
]


@dataclass(frozen=True)
class DatasetKind:
    """A kind of data set.

    Args:
        name: the part of a spec before the colon.
        usage: how a spec of this kind is written.
        summary: one line for lists.
        open: opens the data set from the part of a spec after the colon.
        located: whether that part is required.
        benchmark: the declaration, if the kind is a published data set.
    """

    name: str
    usage: str
    summary: str
    open: Callable[[str], Dataset]
    located: bool = True
    benchmark: Benchmark | None = None


def _published(benchmark: Benchmark) -> DatasetKind:
    opening = partial(open_benchmark, benchmark)
    return DatasetKind(benchmark.name, benchmark.usage, benchmark.summary, opening, benchmark=benchmark)


KINDS: tuple[DatasetKind, ...] = (
    DatasetKind(
        "demo",
        "demo",
        "8 photos from scikit-image and scikit-learn, 17 classes; demo:small: small on others",
        open_demo,
        located=False,
    ),
    DatasetKind(
        "imagefolder",
        "imagefolder:DIR",
        "a folder with one sub-folder of images for each class, or with a metadata.csv",
        open_imagefolder,
    ),
    DatasetKind("csv", "csv:FILE", "a table with the columns path and label", open_table),
    DatasetKind("jsonl", "jsonl:FILE", 'lines of JSON with "path" and "label"', open_jsonl),
    DatasetKind(
        "wds", "wds:DIR", "webdataset shards, as CLIP_benchmark publishes them; wds:https://...?to=DIR", open_shards
    ),
    DatasetKind("hf", "hf:DIR", "parquet files of the Hugging Face hub; hf:OWNER/NAME@REVISION?to=DIR", open_parquet),
    *map(_published, BENCHMARKS),
)


# kinds that a program or plugin registered, by name
_REGISTERED: dict[str, DatasetKind] = {}


def register_dataset(prefix: str, opener: Callable[[str], Dataset], summary: str = "") -> None:
    """Make a kind of data set known: ``PREFIX:LOCATION`` then opens ``opener(LOCATION)``.

    Registering the same opener again does nothing.

    Args:
        prefix: lower-case letters, digits, ``_`` and ``-``; no kind that there is.
        opener: the part of a spec after the colon, which is empty without one, to a data set named by the whole spec.
        summary: one line for lists.

    Raises:
        UsageError: a prefix of another form, or that is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", prefix):
        raise UsageError(f"{prefix!r} is no prefix of a data set", remedy="Use lower-case letters, digits, _ and -")
    registered = _REGISTERED.get(prefix)
    if any(kind.name == prefix for kind in KINDS) or (registered is not None and registered.open is not opener):
        taken = f"is already registered, for data sets{entry_source('data set', prefix)}"
        raise UsageError(f"the data set prefix {prefix!r} {taken}", remedy="Choose another prefix")
    if registered is None:
        record_entry("data set", prefix, lambda: _REGISTERED.pop(prefix))
    _REGISTERED[prefix] = DatasetKind(prefix, f"{prefix}:LOCATION", summary, opener, located=False)


def dataset_kinds() -> tuple[DatasetKind, ...]:
    """All kinds of data sets: those of the toolkit, then those that were registered."""
    return (*KINDS, *_REGISTERED.values())


def available_datasets() -> tuple[str, ...]:
    """How a spec of each kind is written."""
    return tuple(kind.usage for kind in dataset_kinds())


def open_dataset(spec: str) -> Dataset:
    """Open a data set. Class names of a user's own images that are no words are translated or remarked on.

    Args:
        spec: as in ``available_datasets()``, with DIR and FILE filled in. Options follow a question mark.

    Raises:
        UnknownNameError: an unknown kind; the message lists the known ones.
        UsageError: DIR or FILE is missing, or an option is unknown.
        DatasetError: the data set cannot be used as it is.
        MissingExtraError: a package that it needs is not installed.
    """
    kind, location = find_kind(spec)
    if kind.located and not location:
        raise UsageError(f"the data set {spec!r} has no location", remedy=f"Write {kind.usage}")
    dataset = _open_registered(kind, location) if kind.name in _REGISTERED else kind.open(location)
    if kind.benchmark is not None or not kind.located:
        return dataset
    classes, remarks = translated_names(dataset.classes)
    return replace(dataset, classes=classes, remarks=(*dataset.remarks, *remarks))


def _open_registered(kind: DatasetKind, location: str) -> Dataset:
    """What somebody else's opener gives, checked.

    Raises:
        DatasetError: it fails, or gives no data set of labelled images.
        AbsError: what it raises so.
    """
    name = f"the opener of the data set prefix {kind.name!r}"
    try:
        dataset: object = kind.open(location)
    except AbsError:
        raise
    except Exception as error:
        raise DatasetError(
            f"{name}{failure_text('data set', kind.name, error)}", remedy="Mend it, or name what it can open"
        ) from error
    problem = _problem(dataset)
    if problem:
        raise DatasetError(
            f"{name}{entry_source('data set', kind.name)} gave {problem}",
            remedy="Return an abs_classify.datasets.Dataset: ClassLabels, and Samples with a Path and a class id",
        )
    assert isinstance(dataset, Dataset)
    return dataset


def _problem(dataset: object) -> str:
    """What is wrong with a data set; empty if nothing. Of a lazy list the labels and one sample are looked at."""
    if not isinstance(dataset, Dataset):
        return f"{type(dataset).__name__} instead of a data set"
    # what its parts should be is no proof of what they are
    classes: object = dataset.classes
    samples: object = dataset.samples
    if not isinstance(classes, tuple) or not all(isinstance(label, ClassLabel) for label in classes):
        return f"classes that are no tuple of ClassLabel: {quoted(repr(classes), 80)}"
    if not isinstance(samples, Sequence):
        return f"samples that are no sequence but {type(samples).__name__}"
    for sample in samples if isinstance(samples, list | tuple) else samples[:1]:
        if not isinstance(sample, Sample) or not isinstance(sample.path, Path):
            return f"a sample without a Path: {quoted(repr(sample), 80)}"
    known = {label.id for label in dataset.classes}
    unknown = next((label for label in dataset.labels if label not in known), None)
    return "" if unknown is None else f"a sample with the label {quoted(repr(unknown), 80)}, which is no class of it"


def find_kind(spec: str) -> tuple[DatasetKind, str]:
    """The kind of a spec, and its part after the colon.

    Raises:
        UnknownNameError: an unknown kind; the message lists the known ones.
    """
    name, colon, location = spec.partition(":")
    kind = _REGISTERED.get(name) or next((kind for kind in KINDS if kind.name == name), None) or _by_other_name(name)
    if kind is None:
        path = existing_path(spec)
        usual = "imagefolder" if path.is_dir() else _KINDS_OF_FILES.get(path.suffix.lower(), "")
        if spec and not colon and usual and os.path.lexists(path):
            what = "a folder of your own images" if path.is_dir() else "this file"
            remedy = f"For {what} write {shlex.quote(f'{usual}:{spec}')}"
        else:
            remedy = "See `abs datasets ls`; read a published set that is not there as imagefolder:, wds: or hf:"
        raise UnknownNameError("data set", spec, available_datasets(), remedy=remedy)
    return kind, location


_KINDS_OF_FILES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".tar": "wds", ".parquet": "hf"}


def _by_other_name(name: str) -> DatasetKind | None:
    """The published set that is known by a name as well: ``oxford_pets``, ``CUB-200-2011``, ``wds/vtab/pets``."""
    wanted = compact(name.rpartition("/")[2])
    for kind in KINDS:
        if kind.benchmark and wanted in map(compact, (kind.name, *kind.benchmark.aliases)):
            return kind
    return None


def check_dataset(spec: str) -> DatasetReport:
    """What a data set has, what it lacks, and what to do next. Opens no image.

    Raises:
        UnknownNameError, UsageError: as ``open_dataset``.
    """
    kind, location = find_kind(spec)
    if kind.located and not location:
        raise UsageError(f"the data set {spec!r} has no location", remedy="Give its folder: --root DIR")
    if kind.benchmark is not None:
        return check_benchmark(kind.benchmark, location)
    return check_opening(spec, open_dataset)
