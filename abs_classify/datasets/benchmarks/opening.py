"""Open a published data set: complete or not at all."""

from __future__ import annotations

from abs_classify.datasets.base import Dataset
from abs_classify.datasets.benchmarks.base import (
    Benchmark,
    SplitChoice,
    choose_split,
    completeness_problem,
    existing_samples,
    usable_reader,
)
from abs_classify.datasets.benchmarks.diagnosis import diagnose, next_step
from abs_classify.datasets.benchmarks.layouts import BenchmarkRoot
from abs_core.errors import DatasetError
from abs_core.labels import ClassLabel, LabelSet, shipped_label_set

__all__ = ["open_benchmark"]


def open_benchmark(benchmark: Benchmark, location: str) -> Dataset:
    """Open a published data set, complete or not at all.

    Args:
        benchmark: its declaration.
        location: the root folder, with options: ``./dtd?split=test2``. The option ``partial`` allows an incomplete set.

    Raises:
        UsageError: an unknown option or split.
        DatasetError: the folder is not the data set, or lacks files or images; says what to do next.
        MissingExtraError: its annotations need a package that is not installed.
    """
    choice = choose_split(benchmark, location)
    root = BenchmarkRoot(choice.root, shipped_label_set(benchmark.labels))
    reader = usable_reader(choice.split, root)
    if reader is None:
        diagnosis = diagnose(benchmark, choice)
        raise DatasetError(diagnosis.message, remedy=diagnosis.remedy)
    listed = list(reader.samples(root))
    samples = existing_samples(listed)
    problem = completeness_problem(benchmark, choice.split, listed, samples)
    if problem and (not choice.partial or not samples):
        raise DatasetError(problem, remedy=next_step(benchmark, choice, listed, samples))
    classes, selected, notes = _candidates(benchmark, choice, root.labels)
    if problem:
        notes = (f"incomplete: {problem}", *notes)
    if len(choice.split.readers) > 1:
        notes = (*notes, f"read from {reader.layout}")
    name = f"{benchmark.name}:{location}"
    return Dataset(name, classes, tuple(samples), benchmark.name, choice.split.name, selected, notes)


def _candidates(
    benchmark: Benchmark, choice: SplitChoice, labels: LabelSet
) -> tuple[tuple[ClassLabel, ...], tuple[str, ...], tuple[str, ...]]:
    """The candidate classes, the ids of those that can win (empty: all), and notes on the choice."""
    subset = tuple(label for label in labels.classes if label.id not in choice.split.without)
    if not benchmark.superset:
        return subset, (), ()
    superset = shipped_label_set(benchmark.superset)
    few, many = len(subset), len(superset.classes)
    if choice.classes == "all":
        note = f"all {many} classes of {superset.name} compete; published numbers choose among {few}"
        return superset.classes, (), (note,)
    if choice.classes == "select":
        note = f"all {many} classes of {superset.name} are scored, then the best of the {few} is chosen, as published"
        return superset.classes, tuple(label.id for label in subset), (note,)
    note = (
        f"the {few} classes of {benchmark.name} compete; published numbers score all {many} and then choose among the "
        f"{few}, which differs for methods whose texts compete (?classes=select)"
    )
    return subset, (), (note,)
