"""The declaration of a published data set: its splits, their sizes, and the layouts they come in."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from abs_classify.datasets.base import Sample, flag, split_options
from abs_classify.datasets.benchmarks.layouts import CoopSplit
from abs_classify.datasets.benchmarks.roots import BenchmarkRoot, LayoutReader
from abs_classify.datasets.orientation import is_as_stored
from abs_core.errors import DatasetError, UnknownNameError, UsageError
from abs_core.labels import shipped_label_set

__all__ = [
    "Archive",
    "Benchmark",
    "BenchmarkSplit",
    "SplitChoice",
    "choose_split",
    "completeness_problem",
    "existing_samples",
    "missing_samples",
    "usable_reader",
]

#: Which classes compete, if those of a benchmark are a subset of a larger label set; the first is the default.
CLASS_CHOICES = ("subset", "all", "select")

#: Whose class names are prompted with: those of the label set (CLIP's), or those of the CoOp suite's split file.
NAME_CHOICES = ("clip", "coop")


@dataclass(frozen=True)
class Archive:
    """An archive that the data set is published in.

    Args:
        name: the name of the file.
        contents: what it contains, as prefixes of paths relative to the root; empty: everything else.
        into: the folder to extract it into, relative to the root; ".." for an archive of the root itself.
        url: the page or address that it comes from.
        top: the folder in an archive of the root that becomes the root.
    """

    name: str
    contents: tuple[str, ...]
    into: str
    url: str
    top: str = ""


@dataclass(frozen=True)
class BenchmarkSplit:
    """A split of a data set.

    Args:
        name: such as ``test``.
        images: the number of images when it is complete.
        readers: of its layouts; the first layout that is there is read.
        without: ids of classes that have no images in it and so are not candidates.
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
        splits: the first is the one that papers report.
        archives: the files it is published in.
        superset: the label set that its classes are a subset of; empty if they are of no other one.
        aliases: other names that it is known by; case and separators do not matter.
    """

    name: str
    summary: str
    labels: str
    splits: tuple[BenchmarkSplit, ...]
    archives: tuple[Archive, ...] = ()
    superset: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """How a spec is written."""
        return f"{self.name}:DIR"

    @property
    def options(self) -> tuple[str, ...]:
        """The options after the question mark."""
        named = ("names",) if any(isinstance(reader, CoopSplit) for reader in self._readers) else ()
        return ("split", "partial", *(("classes",) if self.superset else ()), *named, "orientation")

    @property
    def _readers(self) -> Iterator[LayoutReader]:
        return (reader for split in self.splits for reader in split.readers)

    def split(self, name: str | None) -> BenchmarkSplit:
        """The split of a name; None: the first.

        Raises:
            UnknownNameError: there is no such split; lists them.
        """
        if name is None:
            return self.splits[0]
        split = next((split for split in self.splits if split.name == name), None)
        if split is None:
            names = (split.name for split in self.splits)
            raise UnknownNameError(f"{self.name} split", name, names, remedy="See `abs datasets ls --json`")
        return split

    def resized(self, sizes: Mapping[str, int]) -> Benchmark:
        """The same data set with other sizes, by split: for a deliberate subset, such as a miniature in a test."""
        splits = tuple(replace(split, images=sizes.get(split.name, split.images)) for split in self.splits)
        return replace(self, splits=splits)


@dataclass(frozen=True)
class SplitChoice:
    """What a spec says about a benchmark.

    Args:
        benchmark: the name of the data set.
        location: the part of the spec after the colon.
        root: the folder of the data set.
        split: which split.
        partial: whether it may be incomplete.
        classes: which classes compete, one of ``CLASS_CHOICES``.
        names: whose class names are prompted with, one of ``NAME_CHOICES``.
        as_stored: whether photos stay as they are stored, whatever their EXIF orientation says.
    """

    benchmark: str
    location: str
    root: Path
    split: BenchmarkSplit
    partial: bool
    classes: str
    names: str = NAME_CHOICES[0]
    as_stored: bool = False

    @property
    def spec(self) -> str:
        """The spec, quoted for a shell."""
        return shlex.quote(f"{self.benchmark}:{self.location}")

    def spec_with(self, option: str) -> str:
        """The spec with an option more, quoted for a shell."""
        mark = "&" if "?" in self.location else "?"
        return shlex.quote(f"{self.benchmark}:{self.location}{mark}{option}")


def choose_split(benchmark: Benchmark, location: str) -> SplitChoice:
    """Parse the part of a spec after the colon.

    Raises:
        UsageError, UnknownNameError: an unknown option, split or choice of classes.
    """
    root, options = split_options(location, benchmark.options, f"{benchmark.usage}?split=NAME")
    classes = options.get("classes", CLASS_CHOICES[0])
    if classes not in CLASS_CHOICES:
        raise UnknownNameError(f"value of ?classes for {benchmark.name}", classes, CLASS_CHOICES)
    split = benchmark.split(options.get("split"))
    names = options.get("names", NAME_CHOICES[0])
    if names not in NAME_CHOICES:
        raise UnknownNameError(f"value of ?names for {benchmark.name}", names, NAME_CHOICES)
    if names == "coop" and not any(isinstance(reader, CoopSplit) for reader in split.readers):
        raise UsageError(
            f"the names of the CoOp suite are those of its splits, got ?split={split.name}",
            remedy="Choose a split such as coop-test, or leave out ?names",
        )
    return SplitChoice(
        benchmark.name,
        location,
        Path(root).expanduser(),
        split,
        flag(options, "partial"),
        classes,
        names,
        is_as_stored(options),
    )


def usable_reader(split: BenchmarkSplit, root: BenchmarkRoot) -> LayoutReader | None:
    """The reader of the first layout of a split that is there; None if there is none."""
    return next((reader for reader in split.readers if not reader.missing(root)), None)


def existing_samples(listed: Sequence[Sample]) -> list[Sample]:
    """The samples whose files exist."""
    return [sample for sample in listed if sample.source is not None or sample.path.is_file()]


def completeness_problem(
    benchmark: Benchmark, split: BenchmarkSplit, listed: Sequence[Sample], samples: Sequence[Sample]
) -> str:
    """Why a split is incomplete; empty if it is complete.

    Args:
        benchmark, split: the declaration.
        listed: the samples that the annotations list.
        samples: those of them that exist.

    Raises:
        DatasetError: an image is listed twice.
    """
    name = f"{benchmark.name} ({split.name})"
    if repeated := next(_repeated(listed), None):
        raise DatasetError(f"{name} lists the image {repeated.name!r} twice", remedy="Fetch its annotations again")
    if len(samples) < len(listed):
        first = next(iter(missing_samples(listed, samples)))
        count = len(listed) - len(samples)
        return f"{count} of {len(listed)} images of {name} are missing, the first is {first.name!r}"
    if len(samples) == split.images:
        return ""
    used = {sample.label for sample in samples} | set(split.without)
    empty = [class_id for class_id in shipped_label_set(benchmark.labels).ids if class_id not in used]
    example = f"; {len(empty)} classes have none, such as {empty[0]!r}" if empty else ""
    return f"found {len(samples)} images of {name}, expected {split.images}{example}"


def missing_samples(listed: Sequence[Sample], samples: Sequence[Sample]) -> Iterator[Sample]:
    """The listed samples that are not among ``samples``."""
    names = {sample.name for sample in samples}
    return (sample for sample in listed if sample.name not in names)


def _repeated(samples: Sequence[Sample]) -> Iterator[Sample]:
    seen: set[tuple[str, object]] = set()
    for sample in samples:
        key = (str(sample.path), sample.source)
        if key in seen:
            yield sample
        seen.add(key)
