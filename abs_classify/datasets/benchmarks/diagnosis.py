"""Opens a declared benchmark; where it cannot, says what is there, what is missing and the exact next step.

The second part is the answer to ``abs datasets check``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from abs_classify.datasets.base import Dataset, Sample
from abs_classify.datasets.benchmarks.base import (
    Archive,
    Benchmark,
    SplitChoice,
    choose_split,
    completeness_problem,
    existing_samples,
    missing_samples,
    usable_reader,
)
from abs_classify.datasets.benchmarks.disk_search import FolderTree, is_of_other_split
from abs_classify.datasets.benchmarks.layouts import CoopSplit
from abs_classify.datasets.benchmarks.roots import BenchmarkRoot, LayoutReader, MissingPath
from abs_classify.datasets.orientation import all_as_stored
from abs_core.errors import AbsError, DatasetError, MissingExtraError
from abs_core.labels import ClassLabel, LabelSet, shipped_label_set
from abs_core.text_files import LFS_POINTER

__all__ = [
    "DatasetReport",
    "Diagnosis",
    "check_benchmark",
    "check_opening",
    "next_step",
    "open_benchmark",
]


@dataclass(frozen=True)
class DatasetReport:
    """The result of ``abs datasets check``.

    Args:
        spec: what was checked, as ``--dataset`` takes it.
        complete: whether it can be used as it is.
        there: what is there.
        missing: what is missing or wrong.
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
    """Check the folder of a published data set. Reads lists and file sizes; opens no image.

    Args:
        benchmark: its declaration.
        location: the root folder, with options.

    Raises:
        UsageError: an unknown option or split.
    """
    choice = choose_split(benchmark, location)
    spec = f"{benchmark.name}:{location}"
    there: list[str] = []
    try:
        layout = _find_layout(benchmark, choice)
        if layout is None:
            diagnosis = _diagnose(benchmark, choice)
            others = tuple(_other_splits(benchmark, choice))
            return DatasetReport(spec, False, others, (diagnosis.message,), diagnosis.remedy)
        reader, root = layout
        there.append(f"{choice.split.name}: {reader.layout}")
        listed = list(reader.samples(root))
        samples = existing_samples(listed)
        there.append(f"{len(samples)} images of {len({sample.label for sample in samples})} classes")
        there += map(str, root.remarks.remarks)
        there += _other_splits(benchmark, choice)
        problem = completeness_problem(benchmark, choice.split, listed, samples)
        if problem and choice.partial and samples:
            there.append(f"incomplete, as ?partial allows: {problem}")
            problem = ""
        _candidates(benchmark, choice, layout)
    except (DatasetError, MissingExtraError) as error:
        return DatasetReport(spec, False, tuple(there), (error.message,), error.remedy)
    missing = [*([problem] if problem else []), *_hollow_files(samples)]
    step = next_step(benchmark, choice, listed, samples) if missing else _use(spec)
    return DatasetReport(spec, not missing, tuple(there), tuple(missing), step)


def _find_layout(
    benchmark: Benchmark, choice: SplitChoice, tree: FolderTree | None = None
) -> tuple[LayoutReader, BenchmarkRoot] | None:
    """The layout to read: a published one in the root, else what is found below it of one; None if there is none.

    A root that is merely too high or too deep has none: its spec is corrected instead.
    """
    labels, split = shipped_label_set(benchmark.labels), choice.split.name
    root = BenchmarkRoot(choice.root, labels, split, tree=tree or FolderTree(choice.root))
    if reader := usable_reader(choice.split, root):
        return reader, root
    root = replace(root, search=True)
    reader = usable_reader(choice.split, root) if choice.root.is_dir() else None
    if reader is None:
        return None
    levels, _, nearest, missing = _nearest(choice, labels)
    return (reader, root) if missing or (levels > 0 and _is_images_only(nearest)) else None


def _is_images_only(reader: LayoutReader) -> bool:
    """Whether the root of a layout is merely its folder of images."""
    return getattr(reader, "images", "") == "."


def check_opening(spec: str, opening: Callable[[str], Dataset]) -> DatasetReport:
    """Check a data set of another kind by opening it.

    Args:
        spec: of the data set.
        opening: opens it.
    """
    try:
        dataset = opening(spec)
    except AbsError as error:
        return DatasetReport(spec, False, (), (error.message,), error.remedy)
    counts = f"{len(dataset.samples)} images of {len(set(dataset.labels))} classes"
    there = (counts, *dataset.notes, *map(str, dataset.remarks))
    missing = tuple(_hollow_files(dataset.samples))
    step = _use(spec)
    if missing:
        pointers = "pointers" in missing[-1]
        step = "Run in their folder: git lfs pull" if pointers else "Fetch the empty files again, or remove them"
    return DatasetReport(spec, not missing, there, missing, step)


def _use(spec: str) -> str:
    return f"Run: abs eval --dataset {shlex.quote(spec)}"


# Images of other splits that a check looks for: on a network disk, hundreds of thousands take minutes.
_MAX_COUNTED = 50_000


def _other_splits(benchmark: Benchmark, choice: SplitChoice) -> list[str]:
    usable = [
        name
        if images == total
        else f"{name} (not counted)"
        if images is None
        else f"{name} ({images} of {total} images)"
        for name, images, total in _usable_splits(benchmark, choice, _MAX_COUNTED)
    ]
    return [f"other splits that can be read: {', '.join(usable)}"] if usable else []


def _usable_splits(
    benchmark: Benchmark, choice: SplitChoice, budget: int | None = None
) -> Iterator[tuple[str, int | None, int]]:
    """The other splits that have images: name, images that are there, and how many there should be.

    Args:
        benchmark, choice: which to leave out.
        budget: how many images to look for; those of later splits are not counted (None). None: all.
    """
    tree = FolderTree(choice.root)
    for split in benchmark.splits:
        if split is choice.split or not choice.root.is_dir():
            continue
        try:
            layout = _find_layout(benchmark, replace(choice, split=split), tree)
            if layout is not None and budget is not None and budget < split.images:
                yield split.name, None, split.images
                continue
            samples = existing_samples(list(layout[0].samples(layout[1]))) if layout else []
        except (DatasetError, MissingExtraError):
            continue
        if samples:
            yield split.name, len(samples), split.images
            budget = None if budget is None else budget - split.images


def _hollow_files(samples: Sequence[Sample]) -> list[str]:
    """Files without the image: of no bytes, as an interrupted extraction leaves them, and pointers of Git LFS."""
    sizes = [(sample, sample.path.stat().st_size) for sample in samples if sample.source is None]
    empty = [sample for sample, size in sizes if size == 0]
    pointers = [sample for sample, size in sizes if 0 < size <= _MAX_POINTER and _is_pointer(sample.path)]
    problems = [f"{len(empty)} images are empty files (0 bytes), the first is {empty[0].name!r}"] if empty else []
    if pointers:
        problems.append(f"{len(pointers)} images are Git LFS pointers, the first is {pointers[0].name!r}")
    return problems


# bytes; a pointer has about 130
_MAX_POINTER = 300


def _is_pointer(path: Path) -> bool:
    try:
        return path.read_bytes().startswith(LFS_POINTER)
    except OSError:
        return False


# How many levels above and below the given folder the data set is searched, and in how many folders.
_ABOVE, _BELOW, _MAX_FOLDERS = 3, 2, 300


@dataclass(frozen=True)
class Diagnosis:
    """Why a split of a benchmark cannot be read.

    Args:
        message: what is wrong.
        remedy: what to do, an imperative.
        missing: what is missing; empty if the root itself is wrong.
    """

    message: str
    remedy: str
    missing: tuple[MissingPath, ...] = ()


def _diagnose(benchmark: Benchmark, choice: SplitChoice) -> Diagnosis:
    """Find out what is wrong with a root folder that has no layout of the split.

    Args:
        benchmark: the data set.
        choice: what the spec asks for.
    """
    root, labels = choice.root, shipped_label_set(benchmark.labels)
    if not root.is_dir():
        return _diagnose_root(benchmark, choice)
    levels, folder, nearest, missing = _nearest(choice, labels)
    distance = f"{abs(levels)} level{'s' if abs(levels) > 1 else ''} too {'high' if levels > 0 else 'deep'}"
    if levels == 0 or (levels > 0 and _is_images_only(nearest)):
        # what lies some levels below is not missing, and a folder of images is no root
        levels, folder = 0, root
        missing = nearest.missing(BenchmarkRoot(root, labels, choice.split.name, search=True))
    misplaced = f"the folder {str(root)!r} is {distance} for {benchmark.name}, which lies in {str(folder)!r}"
    if not missing:
        return Diagnosis(misplaced, f"Write {_spec_with_root(benchmark, choice, folder)}")
    paths = ", ".join(f"{path.title} ({_relative(path.path, folder)})" for path in missing)
    lacks = f"lacks files of {benchmark.name} ({choice.split.name}): {paths}"
    message = f"{misplaced} and {lacks}" if levels else f"the folder {str(root)!r} {lacks}"
    remedy = missing[0].remedy or _fetch(benchmark, folder, missing[0])
    if alternative := _alternative(benchmark, replace(choice, root=folder, location=str(folder))):
        remedy += f", or use another split: {alternative}"
    return Diagnosis(message, remedy, missing)


def _alternative(benchmark: Benchmark, choice: SplitChoice) -> str:
    """The spec of another split that is there, a complete one if there is one; empty if there is none."""
    incomplete = ""
    for name, images, total in _usable_splits(benchmark, choice):
        if images == total:
            return choice.spec_with(f"split={name}")
        incomplete = incomplete or f"{choice.spec_with(f'split={name}&partial')}, which has {images} of {total} images"
    return incomplete


def next_step(benchmark: Benchmark, choice: SplitChoice, listed: Sequence[Sample], samples: Sequence[Sample]) -> str:
    """What to do about a split that is there but incomplete; arguments as for ``completeness_problem``."""
    first = next((sample.path for sample in missing_samples(listed, samples)), None)
    archive = _archive_of(benchmark, choice.root, first or (samples[0].path if samples else choice.root))
    fetch = f"Extract it again: {_extraction_command(archive, choice.root)}" if archive else "Fetch it again"
    if archive and _find(archive, choice.root) is None:
        target = str(_target(archive, choice.root))
        fetch = f"Download {archive.name} again from {archive.url} and extract it in {target!r}"
    if choice.partial or not samples:
        return fetch
    return f"{fetch}, or continue with the images that are there: {choice.spec_with('partial')}"


def _extraction_command(archive: Archive, root: Path) -> str:
    """The command that extracts an archive so that ``root`` becomes the root of the data set."""
    file, target = _find(archive, root) or root / archive.name, _target(archive, root)
    prepare = "" if target.is_dir() else f"mkdir -p {_quoted(target)} && "
    if archive.name.endswith(".zip"):
        return f"{prepare}unzip -o {_quoted(file)} -d {_quoted(target)}"
    strip = " --strip-components=1" if archive.into == ".." and target == root else ""
    # tar would put a folder in the place of a link to one
    linked = any((target / prefix.strip("/")).is_symlink() for prefix in archive.contents)
    return (
        f"{prepare}tar -xf {_quoted(file)} -C {_quoted(target)}{strip}{' --keep-directory-symlink' if linked else ''}"
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _spec_with_root(benchmark: Benchmark, choice: SplitChoice, root: Path) -> str:
    """The spec with another root and the same options."""
    _, mark, options = choice.location.rpartition("?")
    return shlex.quote(f"{benchmark.name}:{root}{mark}{options if mark else ''}")


def _diagnose_root(benchmark: Benchmark, choice: SplitChoice) -> Diagnosis:
    """Why the root is not a folder."""
    root = choice.root
    archive = next((archive for archive in benchmark.archives if archive.name == root.name), None)
    if archive is not None and root.is_file():
        extracted = root.parent / (archive.top or benchmark.name)
        return Diagnosis(
            f"{str(root)!r} is the archive of {benchmark.name}, not its folder",
            f"Extract it: {_extraction_command(archive, extracted)}; then write "
            f"{_spec_with_root(benchmark, choice, extracted)}",
        )
    if root.is_file() and root.name.lower().endswith((".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".7z", ".rar")):
        return Diagnosis(
            f"the root {str(root)!r} of {benchmark.name} is an archive, not a folder",
            "Extract it into a new folder, and name that folder",
        )
    problem = "is not a folder" if root.exists() else "does not exist"
    return Diagnosis(f"the root {str(root)!r} of {benchmark.name} {problem}", "Check the path")


def _nearest(choice: SplitChoice, labels: LabelSet) -> tuple[int, Path, LayoutReader, tuple[MissingPath, ...]]:
    """What lacks least near the root, or in it: levels below the root, folder, layout, and what is missing of it."""
    least, reader, missing = _fewest_missing(choice, BenchmarkRoot(choice.root, labels))
    best = (0, choice.root, reader, missing)
    for levels, folder in _nearby(choice.root):
        if levels > 0 and is_of_other_split(folder.name, choice.split.name):
            continue
        try:
            share, reader, missing = _fewest_missing(choice, BenchmarkRoot(folder, labels))
        except DatasetError:
            continue  # a folder that may not be read
        if share < least:
            least, best = share, (levels, folder, reader, missing)
        if not missing:
            break
    return best


def _fewest_missing(choice: SplitChoice, root: BenchmarkRoot) -> tuple[float, LayoutReader, tuple[MissingPath, ...]]:
    """The share of the nearest layout that is missing, that layout, and what is missing of it."""
    candidates = [(reader, reader.missing(root)) for reader in choice.split.readers]
    # a layout that has a remedy of its own has recognized something, so it comes before an equal one
    shares = [
        (len(missing) / reader.required_paths - 0.01 * any(path.remedy for path in missing), reader, missing)
        for reader, missing in candidates
    ]
    return min(shares, key=lambda share: share[0])


def _nearby(root: Path) -> Iterator[tuple[int, Path]]:
    """Folders above (negative levels) and below (positive levels) a root, the nearest first."""
    for levels, parent in enumerate(islice(root.absolute().parents, _ABOVE), 1):
        yield -levels, parent
    yield from islice(_below(root), _MAX_FOLDERS)


def _below(root: Path) -> Iterator[tuple[int, Path]]:
    parents = [root]
    for level in range(1, _BELOW + 1):
        folders: list[Path] = []
        for parent in parents:
            try:
                folders += islice((path for path in sorted(parent.iterdir()) if path.is_dir()), _MAX_FOLDERS)
            except OSError:
                continue
        yield from ((level, folder) for folder in folders)
        parents = folders[:_MAX_FOLDERS]


def _fetch(benchmark: Benchmark, root: Path, missing: MissingPath) -> str:
    archive = _archive_of(benchmark, root, missing.path)
    if archive is None:
        return f"Put {missing.title} at {str(missing.path)!r}"
    if _find(archive, root) is not None:
        return f"Extract the archive that is there: {_extraction_command(archive, root)}"
    return f"Download {archive.name} from {archive.url} and extract it in {str(_target(archive, root))!r}"


def _archive_of(benchmark: Benchmark, root: Path, path: Path) -> Archive | None:
    """The archive that contains a path; of several one that is on disk."""
    relative = _relative(path, root)
    fitting = [
        archive for archive in benchmark.archives if any(relative.startswith(prefix) for prefix in archive.contents)
    ]
    fitting = fitting or [archive for archive in benchmark.archives if not archive.contents]
    on_disk = [archive for archive in fitting if _find(archive, root) is not None]
    return next(iter(on_disk or fitting), None)


def _find(archive: Archive, root: Path) -> Path | None:
    folders = (root, root.parent, root.absolute().parent)
    return next((folder / archive.name for folder in folders if (folder / archive.name).is_file()), None)


def _target(archive: Archive, root: Path) -> Path:
    """The folder to extract an archive in: of one of the root itself its parent, if the names agree, else the root."""
    if archive.into != "..":
        return root / archive.into
    # through a link, tar would put a folder in its place
    return root.absolute().parent if root.absolute().name == archive.top and not root.is_symlink() else root


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()


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
    layout = _find_layout(benchmark, choice)
    if layout is None:
        diagnosis = _diagnose(benchmark, choice)
        raise DatasetError(diagnosis.message, remedy=diagnosis.remedy)
    reader, root = layout
    listed = list(reader.samples(root))
    samples = existing_samples(listed)
    problem = completeness_problem(benchmark, choice.split, listed, samples)
    if problem and (not choice.partial or not samples):
        raise DatasetError(problem, remedy=next_step(benchmark, choice, listed, samples))
    classes, selected, notes = _candidates(benchmark, choice, layout)
    if problem:
        notes = (f"incomplete: {problem}", *notes)
    if len(choice.split.readers) > 1:
        notes = (*notes, f"read from {reader.layout}")
    name = f"{benchmark.name}:{location}"
    remarks = root.remarks.remarks
    dataset = Dataset(name, classes, tuple(samples), benchmark.name, choice.split.name, selected, notes, remarks)
    return all_as_stored(dataset) if choice.as_stored else dataset


def _candidates(
    benchmark: Benchmark, choice: SplitChoice, layout: tuple[LayoutReader, BenchmarkRoot]
) -> tuple[tuple[ClassLabel, ...], tuple[str, ...], tuple[str, ...]]:
    """The candidate classes, the ids of those that can win (empty: all), and notes on the choice."""
    reader, root = layout
    subset = tuple(label for label in root.labels.classes if label.id not in choice.split.without)
    if isinstance(reader, CoopSplit):
        if choice.names == "coop":
            names = reader.class_names(root)
            named = tuple(replace(label, name=names.get(label.id, label.name)) for label in subset)
            kept = sum(label.id not in names for label in subset)
            rest = f"; {kept} classes that it lacks keep theirs" if kept else ""
            return named, (), (f"class names of the CoOp suite, as its split file has them{rest}",)
        return subset, (), ("class names of CLIP's paper; those of the CoOp suite are ?names=coop",)
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
