"""A published data set, declared: its parts, their sizes, the layouts they come in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abs_classify.datasets.base import Sample, flag, split_options
from abs_classify.datasets.benchmarks.layouts import LayoutReader
from abs_core.errors import DatasetError, UnknownNameError
from abs_core.labels import LabelSet, shipped_label_set

__all__ = ["Archive", "Benchmark", "BenchmarkSplit", "SplitChoice", "choose", "count_problem", "existing", "usable"]


#: How the classes of a subset of another benchmark compete; the first is the default.
CLASS_CHOICES = ("subset", "all", "select")


@dataclass(frozen=True)
class Archive:
    """A file that the data set is published in.

    Args:
        name: of the file.
        brings: what it holds, as beginnings of paths relative to the root.
        into: the folder to extract it in, relative to the root.
        url: the page or address that it comes from.
    """

    name: str
    brings: tuple[str, ...]
    into: str
    url: str


@dataclass(frozen=True)
class BenchmarkSplit:
    """One part of a data set.

    Args:
        name: such as ``test``.
        images: how many there are when it is complete.
        readers: its layouts; the first that is there is read.
        without: ids of classes that it has no images of, so that they are no candidates.
    """

    name: str
    images: int
    readers: tuple[LayoutReader, ...]
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A published data set.

    Args:
        name: the part of a spec before the colon.
        summary: one line for lists.
        labels: its label set in ``data/labels``.
        splits: its parts; the first is the one that papers report.
        archives: the files it comes in.
        superset: the label set of the benchmark whose classes it has a part of; empty if it stands alone.
    """

    name: str
    summary: str
    labels: str
    splits: tuple[BenchmarkSplit, ...]
    archives: tuple[Archive, ...] = ()
    superset: str = ""

    @property
    def usage(self) -> str:
        """How a spec is written."""
        return f"{self.name}:DIR"

    @property
    def options(self) -> tuple[str, ...]:
        """The options after the question mark."""
        return ("split", "partial", "classes") if self.superset else ("split", "partial")

    def split(self, name: str | None) -> BenchmarkSplit:
        """A part by name, or the first.

        Raises:
            UnknownNameError: there is no such part; lists them.
        """
        if name is None:
            return self.splits[0]
        found = next((split for split in self.splits if split.name == name), None)
        if found is None:
            known = (split.name for split in self.splits)
            raise UnknownNameError(f"split of {self.name}", name, known, remedy="See `abs datasets ls --json`")
        return found

    def resized(self, sizes: Mapping[str, int]) -> Benchmark:
        """The same data set with other sizes: for a deliberate, documented subset, such as a miniature for a test."""
        splits = tuple(replace(split, images=sizes.get(split.name, split.images)) for split in self.splits)
        return replace(self, splits=splits)


@dataclass(frozen=True)
class SplitChoice:
    """What a spec asks of a benchmark: root folder, part, whether it may be incomplete, and which classes compete."""

    location: str
    root: Path
    split: BenchmarkSplit
    partial: bool
    classes: str


def choose(benchmark: Benchmark, location: str) -> SplitChoice:
    """Read the part of a spec after the colon.

    Raises:
        UsageError, UnknownNameError: an option, a split or a choice of classes that does not exist.
    """
    place, options = split_options(location, benchmark.options, f"{benchmark.usage}?split=NAME")
    classes = options.get("classes", CLASS_CHOICES[0])
    if classes not in CLASS_CHOICES:
        raise UnknownNameError(f"choice of classes of {benchmark.name}", classes, CLASS_CHOICES)
    split = benchmark.split(options.get("split"))
    return SplitChoice(location, Path(place).expanduser(), split, flag(options, "partial"), classes)


def usable(split: BenchmarkSplit, root: Path, labels: LabelSet) -> LayoutReader | None:
    """The first of a part's layouts that is there."""
    return next((reader for reader in split.readers if not reader.missing(root, labels)), None)


def existing(items: Sequence[Sample]) -> list[Sample]:
    """The items whose files are there."""
    return [item for item in items if item.source is not None or item.path.is_file()]


def count_problem(
    benchmark: Benchmark, split: BenchmarkSplit, listed: Sequence[Sample], items: Sequence[Sample]
) -> str:
    """Why a part is not complete; empty if it is."""
    what = f"{benchmark.name} ({split.name})"
    if twice := next(_repeated(listed), None):
        raise DatasetError(f"{what} lists the image {twice.name!r} twice", remedy="Fetch its annotations again")
    if len(items) < len(listed):
        there = {item.name for item in items}
        first = next(item.name for item in listed if item.name not in there)
        return f"{len(listed) - len(items)} of {len(listed)} images of {what} are missing, the first is {first!r}"
    if len(items) == split.images:
        return ""
    empty = _classes_without(benchmark, split, items)
    some = f"; {len(empty)} classes have none, such as {empty[0]!r}" if empty else ""
    return f"found {len(items)} images of {what}, expected {split.images}{some}"


def _repeated(items: Sequence[Sample]) -> Iterator[Sample]:
    seen: set[tuple[str, object]] = set()
    for item in items:
        key = (str(item.path), item.source)
        if key in seen:
            yield item
        seen.add(key)


def _classes_without(benchmark: Benchmark, split: BenchmarkSplit, items: Sequence[Sample]) -> list[str]:
    used = {item.label for item in items}
    return [one for one in shipped_label_set(benchmark.labels).ids if one not in used and one not in split.without]
