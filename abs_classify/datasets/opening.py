"""Opens a declared benchmark, whole or not at all, and chooses its candidate classes."""

from __future__ import annotations

from abs_classify.datasets.base import ClassName, Dataset
from abs_classify.datasets.benchmark import Benchmark, Choice, choose, count_fault, existing, usable
from abs_classify.datasets.diagnosis import diagnose, way_on
from abs_classify.datasets.label_sets import LabelSet, label_set
from abs_core.errors import DatasetError

__all__ = ["open_benchmark"]


def open_benchmark(benchmark: Benchmark, location: str) -> Dataset:
    """Open a published data set, whole or not at all.

    Args:
        benchmark: its declaration.
        location: the root folder, with options: ``./dtd?split=test2``; ``partial`` allows an incomplete one.

    Raises:
        UsageError: an unknown option or split.
        DatasetError: the folder is not the data set, or lacks files or images; says what to do next.
        MissingExtraError: its annotations need a package that is not installed.
    """
    choice = choose(benchmark, location)
    labels = label_set(benchmark.labels)
    reader = usable(choice.split, choice.root, labels)
    if reader is None:
        found = diagnose(benchmark, choice)
        raise DatasetError(found.message, remedy=found.remedy)
    listed = list(reader.items(choice.root, labels))
    items = existing(listed)
    fault = count_fault(benchmark, choice.split, listed, items)
    if fault and (not choice.partial or not items):
        raise DatasetError(fault, remedy=way_on(benchmark, choice, listed, items))
    classes, selected, notes = _candidates(benchmark, choice, labels)
    if fault:
        notes = (f"incomplete: {fault}", *notes)
    if len(choice.split.readers) > 1:
        notes = (*notes, f"read from {reader.layout}")
    name = f"{benchmark.name}:{location}"
    return Dataset(name, classes, tuple(items), benchmark.name, choice.split.name, selected, notes)


def _candidates(
    benchmark: Benchmark, choice: Choice, labels: LabelSet
) -> tuple[tuple[ClassName, ...], tuple[str, ...], tuple[str, ...]]:
    """Candidate classes, those to choose among after scoring, and what to say of them."""
    own = tuple(each for each in labels.classes if each.id not in choice.split.without)
    if not benchmark.superset:
        return own, (), ()
    every = label_set(benchmark.superset)
    few, many = len(own), len(every.classes)
    if choice.classes == "all":
        return every.classes, (), (f"all {many} classes of {every.name} compete; published numbers choose among {few}",)
    if choice.classes == "select":
        note = f"all {many} classes of {every.name} are scored, then the best of the {few} is chosen, as published"
        return every.classes, tuple(each.id for each in own), (note,)
    note = (
        f"the {few} classes of {benchmark.name} compete; published numbers score all {many} and then choose among the "
        f"{few}, which differs for methods whose texts compete (?classes=select)"
    )
    return own, (), (note,)
