"""Why a folder is not the data set that it should be, and the one thing to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from abs_classify.datasets.base import Sample
from abs_classify.datasets.benchmarks.base import Archive, Benchmark, SplitChoice, usable
from abs_classify.datasets.benchmarks.layouts import MissingPath
from abs_core.errors import DatasetError
from abs_core.labels import LabelSet, shipped_label_set

__all__ = ["Diagnosis", "diagnose", "extraction", "spec_at", "way_on"]


#: How far above the given folder the data set is looked for, how far below, and among how many folders.
_ABOVE, _BELOW, _MOST = 3, 2, 300


@dataclass(frozen=True)
class Diagnosis:
    """Why a benchmark's part cannot be read.

    Args:
        message: what is wrong.
        remedy: what to do, an imperative.
        missing: what is not there; empty where the root itself is wrong.
    """

    message: str
    remedy: str
    missing: tuple[MissingPath, ...] = ()


def diagnose(benchmark: Benchmark, choice: SplitChoice) -> Diagnosis:
    """Find out what is wrong with a root folder in which no layout of the part is there.

    Args:
        benchmark: the data set.
        choice: what was asked of it.
    """
    root, labels = choice.root, shipped_label_set(benchmark.labels)
    what = f"the folder {str(root)!r}"
    if not root.is_dir():
        return _no_folder(benchmark, choice)
    steps, place, missing = _nearest(choice, labels)
    levels = f"{abs(steps)} level{'s' if abs(steps) > 1 else ''} too {'high' if steps > 0 else 'deep'}"
    misplaced = f"{what} is {levels} for {benchmark.name}, which lies in {str(place)!r}"
    if not missing:
        return Diagnosis(misplaced, f"Write {spec_at(benchmark, choice, place)}")
    shown = "; ".join(f"{each.what} ({_relative(each.path, place)})" for each in missing)
    lacks = f"lacks, for {benchmark.name} ({choice.split.name}), {shown}"
    message = f"{misplaced} and {lacks}" if steps else f"{what} {lacks}"
    remedy = missing[0].remedy or _fetch(benchmark, place, missing[0])
    ready = [split.name for split in benchmark.splits if usable(split, place, labels) is not None]
    if ready:
        remedy += f", or use what is there: {benchmark.name}:{place}?split={ready[0]}"
    return Diagnosis(message, remedy, missing)


def way_on(benchmark: Benchmark, choice: SplitChoice, listed: Sequence[Sample], items: Sequence[Sample]) -> str:
    """What to do about a part that is there but incomplete."""
    there = {item.name for item in items}
    absent = next((item.path for item in listed if item.name not in there), None)
    archive = _archive_for(benchmark, choice.root, absent or (items[0].path if items else choice.root))
    again = f"Extract it again: {extraction(archive, choice.root)}" if archive else "Fetch it again"
    if archive and _find(archive, choice.root) is None:
        again = (
            f"Download {archive.name} again from {archive.url} and extract it in {str(_into(archive, choice.root))!r}"
        )
    mark = "&" if "?" in choice.location else "?"
    return f"{again}, or go on with the images that are there: {benchmark.name}:{choice.location}{mark}partial"


def extraction(archive: Archive, root: Path) -> str:
    """The command that extracts an archive to where the data set's root is ``root``."""
    found = shlex.quote(str(_find(archive, root) or root / archive.name))
    into = shlex.quote(str(_into(archive, root)))
    return f"unzip -o {found} -d {into}" if archive.name.endswith(".zip") else f"tar -xf {found} -C {into}"


def spec_at(benchmark: Benchmark, choice: SplitChoice, root: Path) -> str:
    """The spec with another root and the same options."""
    _, mark, options = choice.location.rpartition("?")
    return f"{benchmark.name}:{root}{mark}{options if mark else ''}"


def _no_folder(benchmark: Benchmark, choice: SplitChoice) -> Diagnosis:
    root = choice.root
    archive = next((each for each in benchmark.archives if each.name == root.name), None)
    if archive is not None and root.is_file():
        home = root.parent / benchmark.name
        folder = home if archive.into == "." else home.parent
        return Diagnosis(
            f"{str(root)!r} is the archive of {benchmark.name}, not its folder",
            f"Extract it: {extraction(archive, home)}; then name the folder that it makes in {str(folder)!r}",
        )
    state = "is no folder" if root.exists() else "does not exist"
    return Diagnosis(f"the root {str(root)!r} of {benchmark.name} {state}", "Check the path")


def _near(root: Path) -> Iterator[tuple[int, Path]]:
    """Folders above (negative) and below (positive) a root, the nearest first."""
    absolute = root.absolute()
    for step, above in enumerate(islice(absolute.parents, _ABOVE), 1):
        yield -step, above
    yield from islice(_below(root), _MOST)


def _below(root: Path) -> Iterator[tuple[int, Path]]:
    level = [root]
    for step in range(1, _BELOW + 1):
        below: list[Path] = []
        for folder in level:
            try:
                below += islice((each for each in sorted(folder.iterdir()) if each.is_dir()), _MOST)
            except OSError:
                continue
        yield from ((step, each) for each in below)
        level = below[:_MOST]


def _fewest_missing(choice: SplitChoice, root: Path, labels: LabelSet) -> tuple[float, tuple[MissingPath, ...]]:
    """How far the nearest layout is from being there, and what it lacks."""
    every = [(reader.missing(root, labels), reader.needs) for reader in choice.split.readers]
    # one that can say more than "fetch it" has recognised something
    far = [(len(missing) / needs - 0.01 * any(each.remedy for each in missing), missing) for missing, needs in every]
    return min(far, key=lambda pair: pair[0])


def _nearest(choice: SplitChoice, labels: LabelSet) -> tuple[int, Path, tuple[MissingPath, ...]]:
    """The folder around the root, or the root itself, in which least is missing: levels off, folder, what."""
    least, missing = _fewest_missing(choice, choice.root, labels)
    best = (0, choice.root, missing)
    for steps, near in _near(choice.root):
        try:
            far, missing = _fewest_missing(choice, near, labels)
        except DatasetError:
            continue  # a folder that may not be read
        if far < least:
            least, best = far, (steps, near, missing)
        if not missing:
            break
    return best


def _fetch(benchmark: Benchmark, root: Path, missing: MissingPath) -> str:
    archive = _archive_for(benchmark, root, missing.path)
    if archive is None:
        return f"Put {missing.what} at {str(missing.path)!r}"
    if _find(archive, root) is not None:
        return f"Extract the archive that lies there: {extraction(archive, root)}"
    return f"Download {archive.name} from {archive.url} and extract it in {str(_into(archive, root))!r}"


def _archive_for(benchmark: Benchmark, root: Path, path: Path) -> Archive | None:
    relative = _relative(path, root)
    fitting = [each for each in benchmark.archives if any(relative.startswith(begin) for begin in each.brings)]
    fitting = fitting or [each for each in benchmark.archives if not each.brings]
    here = [each for each in fitting if _find(each, root) is not None]
    return next(iter(here or fitting), None)


def _find(archive: Archive, root: Path) -> Path | None:
    folders = (root, root.parent, root.absolute().parent)
    return next((folder / archive.name for folder in folders if (folder / archive.name).is_file()), None)


def _into(archive: Archive, root: Path) -> Path:
    return root.absolute().parent if archive.into == ".." else root / archive.into


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()
