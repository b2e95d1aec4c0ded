"""What is there of a data set, what is missing, and the exact next step: the answer to ``abs datasets check``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from abs_classify.datasets.base import Dataset, Sample
from abs_classify.datasets.benchmarks.base import Benchmark, SplitChoice, choose, count_problem, existing, usable
from abs_classify.datasets.benchmarks.diagnosis import diagnose, way_on
from abs_core.errors import AbsError, DatasetError, MissingExtraError
from abs_core.labels import ClassLabel, LabelSet, shipped_label_set

__all__ = ["DatasetReport", "check_benchmark", "check_opening", "open_benchmark"]


@dataclass(frozen=True)
class DatasetReport:
    """What ``abs datasets check`` found.

    Args:
        spec: what was checked, as ``--dataset`` takes it.
        complete: whether it can be used as it is.
        there: what is there.
        missing: what is not, or is wrong.
        next_step: one imperative sentence.
    """

    spec: str
    complete: bool
    there: tuple[str, ...]
    missing: tuple[str, ...]
    next_step: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def check_benchmark(benchmark: Benchmark, location: str) -> DatasetReport:
    """Look at the folder of a published data set. Reads lists and file sizes; opens no image.

    Args:
        benchmark: its declaration.
        location: the root folder, with options.

    Raises:
        UsageError: an unknown option or split.
    """
    choice = choose(benchmark, location)
    spec = f"{benchmark.name}:{location}"
    labels = shipped_label_set(benchmark.labels)
    there: list[str] = []
    missing: list[str] = []
    try:
        reader = usable(choice.split, choice.root, labels)
        if reader is None:
            found = diagnose(benchmark, choice)
            return DatasetReport(spec, False, tuple(_other_splits(benchmark, choice)), (found.message,), found.remedy)
        there.append(f"{choice.split.name}: {reader.layout}")
        listed = list(reader.samples(choice.root, labels))
        items = existing(listed)
        there.append(f"{len(items)} images of {len({item.label for item in items})} classes")
        there += _other_splits(benchmark, choice)
        fault = count_problem(benchmark, choice.split, listed, items)
    except (DatasetError, MissingExtraError) as error:
        return DatasetReport(spec, False, tuple(there), (*missing, error.message), error.remedy)
    missing += [fault] if fault else []
    missing += _cut_off(items)
    step = way_on(benchmark, choice, listed, items) if missing else f"Run: abs eval --dataset {shlex.quote(spec)}"
    return DatasetReport(spec, not missing, tuple(there), tuple(missing), step)


def check_opening(spec: str, opening: Callable[[str], Dataset]) -> DatasetReport:
    """Try to open a data set of another kind, and say what came of it.

    Args:
        spec: what is opened.
        opening: called with it; gives a ``Dataset``.
    """
    try:
        data = opening(spec)
    except AbsError as error:
        return DatasetReport(spec, False, (), (error.message,), error.remedy)
    used = set(data.labels)
    there = (f"{len(data.samples)} images of {len(used)} classes", *data.notes)
    cut_off = tuple(_cut_off(data.samples))
    step = (
        "Fetch the empty files again, or leave them out" if cut_off else f"Run: abs eval --dataset {shlex.quote(spec)}"
    )
    return DatasetReport(spec, not cut_off, there, cut_off, step)


def _other_splits(benchmark: Benchmark, choice: SplitChoice) -> list[str]:
    labels = shipped_label_set(benchmark.labels)
    ready = [
        split.name
        for split in benchmark.splits
        if split is not choice.split and choice.root.is_dir() and usable(split, choice.root, labels) is not None
    ]
    return [f"other splits that can be read: {', '.join(ready)}"] if ready else []


def _cut_off(items: Sequence[Sample]) -> list[str]:
    """Files of no bytes: what an extraction leaves that ended early."""
    empty = [item for item in items if item.source is None and item.path.stat().st_size == 0]
    return [f"{len(empty)} images are empty files (0 bytes), the first is {empty[0].name!r}"] if empty else []


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
    labels = shipped_label_set(benchmark.labels)
    reader = usable(choice.split, choice.root, labels)
    if reader is None:
        found = diagnose(benchmark, choice)
        raise DatasetError(found.message, remedy=found.remedy)
    listed = list(reader.samples(choice.root, labels))
    items = existing(listed)
    fault = count_problem(benchmark, choice.split, listed, items)
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
    benchmark: Benchmark, choice: SplitChoice, labels: LabelSet
) -> tuple[tuple[ClassLabel, ...], tuple[str, ...], tuple[str, ...]]:
    """Candidate classes, those to choose among after scoring, and what to say of them."""
    own = tuple(each for each in labels.classes if each.id not in choice.split.without)
    if not benchmark.superset:
        return own, (), ()
    every = shipped_label_set(benchmark.superset)
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
