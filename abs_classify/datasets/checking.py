"""What is there of a data set, what is missing, and the exact next step: the answer to ``abs datasets check``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from abs_classify.datasets.base import Dataset, Item
from abs_classify.datasets.benchmark import Benchmark, Choice, choose, count_fault, existing, usable
from abs_classify.datasets.diagnosis import diagnose, way_on
from abs_classify.datasets.label_sets import label_set
from abs_core.errors import AbsError, DatasetError, MissingExtraError

__all__ = ["Report", "check_benchmark", "check_opening"]


@dataclass(frozen=True)
class Report:
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


def check_benchmark(benchmark: Benchmark, location: str) -> Report:
    """Look at the folder of a published data set. Reads lists and file sizes; opens no image.

    Args:
        benchmark: its declaration.
        location: the root folder, with options.

    Raises:
        UsageError: an unknown option or split.
    """
    choice = choose(benchmark, location)
    spec = f"{benchmark.name}:{location}"
    labels = label_set(benchmark.labels)
    there: list[str] = []
    missing: list[str] = []
    try:
        reader = usable(choice.split, choice.root, labels)
        if reader is None:
            found = diagnose(benchmark, choice)
            return Report(spec, False, tuple(_other_splits(benchmark, choice)), (found.message,), found.remedy)
        there.append(f"{choice.split.name}: {reader.layout}")
        listed = list(reader.items(choice.root, labels))
        items = existing(listed)
        there.append(f"{len(items)} images of {len({item.label for item in items})} classes")
        there += _other_splits(benchmark, choice)
        fault = count_fault(benchmark, choice.split, listed, items)
    except (DatasetError, MissingExtraError) as error:
        return Report(spec, False, tuple(there), (*missing, error.message), error.remedy)
    missing += [fault] if fault else []
    missing += _cut_off(items)
    step = way_on(benchmark, choice, listed, items) if missing else f"Run: abs eval --dataset {shlex.quote(spec)}"
    return Report(spec, not missing, tuple(there), tuple(missing), step)


def check_opening(spec: str, opening: Callable[[str], Dataset]) -> Report:
    """Try to open a data set of another kind, and say what came of it.

    Args:
        spec: what is opened.
        opening: called with it; gives a ``Dataset``.
    """
    try:
        data = opening(spec)
    except AbsError as error:
        return Report(spec, False, (), (error.message,), error.remedy)
    used = set(data.labels)
    there = (f"{len(data.items)} images of {len(used)} classes", *data.notes)
    cut_off = tuple(_cut_off(data.items))
    step = (
        "Fetch the empty files again, or leave them out" if cut_off else f"Run: abs eval --dataset {shlex.quote(spec)}"
    )
    return Report(spec, not cut_off, there, cut_off, step)


def _other_splits(benchmark: Benchmark, choice: Choice) -> list[str]:
    labels = label_set(benchmark.labels)
    ready = [
        split.name
        for split in benchmark.splits
        if split is not choice.split and choice.root.is_dir() and usable(split, choice.root, labels) is not None
    ]
    return [f"other splits that can be read: {', '.join(ready)}"] if ready else []


def _cut_off(items: Sequence[Item]) -> list[str]:
    """Files of no bytes: what an extraction leaves that ended early."""
    empty = [item for item in items if item.source is None and item.path.stat().st_size == 0]
    return [f"{len(empty)} images are empty files (0 bytes), the first is {empty[0].name!r}"] if empty else []
