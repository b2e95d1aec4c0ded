"""One source of images for several processes that know nothing of each other: which share each takes, and whether what
they made belongs together. Imports no torch.

Share I of N holds a run of consecutive images, so that a tar file, a row group of parquet or a folder is read by one
process, or by two where a border falls into it. Which images these are follows from their number and order alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from abs_core.errors import ResultError, UsageError
from abs_core.text import counted, quoted

__all__ = ["ShardSpec", "SourceDigest", "SourceShare", "require_complete"]

#: what ``--shard`` takes instead of I/N: the place of this process in a Slurm job
SLURM = "slurm"

_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")
_REMEDY = "Write --shard 1/8 for the first of eight shares, or --shard slurm in a job array"


@dataclass(frozen=True)
class ShardSpec:
    """Which share of a source a process takes.

    Attributes:
        index: I, from 1 to N.
        count: N.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise _invalid(f"{self.index}/{self.count}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Self:
        """``2/8``, or ``slurm`` for the place of this process in its job array or among the tasks of srun.

        Args:
            text: as the user wrote it.
            environment: with the variables of Slurm; by default that of this process.

        Raises:
            UsageError: another form, numbers that cannot be, or a Slurm job that does not tell the share.
        """
        if text.strip().lower() == SLURM:
            return cls(*_slurm_place(os.environ if environment is None else environment))
        form = _FORM.fullmatch(text.strip())
        if form is None:
            raise _invalid(text)
        return cls(int(form[1]), int(form[2]))

    @classmethod
    def of(cls, shard: ShardSpec | str | None) -> ShardSpec | None:
        """The share that a caller names, as a value or as text; None for all images."""
        return cls.parse(shard) if isinstance(shard, str) else shard

    def positions(self, images: int) -> range:
        """The positions of the share's images among all of them; sizes of two shares differ by one at most.

        Raises:
            UsageError: there are fewer images than shares, so that some would have none.
        """
        if images < self.count:
            raise UsageError(
                f"--shard {self} needs an image for each of the {self.count} shares, and the source has {images}",
                remedy=f"Use at most {images} shares" if images else "Check the source",
            )
        return range(images * (self.index - 1) // self.count, images * self.index // self.count)

    def share(self, images: int, digest: str) -> SourceShare:
        """The share of a source, as results keep it."""
        return SourceShare(self.index, self.count, images, digest)


def _invalid(text: str) -> UsageError:
    return UsageError(f"--shard must be I/N with 1 <= I <= N, got {quoted(text)}", remedy=_REMEDY)


def _slurm_place(environment: Mapping[str, str]) -> tuple[int, int]:
    """Index and count of this process: its task in the job array, and in that its task of srun."""

    def number(name: str) -> int | None:
        text = environment.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else None

    task, tasks = number("SLURM_PROCID"), number("SLURM_STEP_NUM_TASKS")
    in_job = number("SLURM_NTASKS")
    if tasks is None and in_job is not None and in_job > 1:
        # the batch script itself is one process, which would take the first share and leave the others undone
        raise UsageError(
            f"--shard slurm: the job has {in_job} tasks, and this process was not started by srun",
            remedy="Write srun before abs, or ask for one task",
        )
    index, count = (task or 0, tasks) if tasks else (0, 1)
    if (element := number("SLURM_ARRAY_TASK_ID")) is None:
        if count > 1:
            return index + 1, count
        raise UsageError(
            "--shard slurm needs a job array or several tasks of srun, and the environment has neither",
            remedy="Use sbatch --array=1-8, or write --shard I/N",
        )
    first, last = number("SLURM_ARRAY_TASK_MIN"), number("SLURM_ARRAY_TASK_MAX")
    elements, step = number("SLURM_ARRAY_TASK_COUNT"), number("SLURM_ARRAY_TASK_STEP") or 1
    if first is None or last is None or elements is None:
        raise UsageError(
            "--shard slurm: SLURM_ARRAY_TASK_MIN, _MAX or _COUNT is missing", remedy="Write --shard I/N instead"
        )
    if elements < 2 or first not in (0, 1) or (last - first) // step + 1 != elements:
        # a part of an array that is submitted again does not tell how large the whole was
        raise UsageError(
            f"--shard slurm needs an array without gaps that begins at 0 or 1, got {elements} of {first} to {last}",
            remedy="To run some tasks of an array again, write the number of shares: --shard $SLURM_ARRAY_TASK_ID/8",
        )
    return (element - first) // step * count + index + 1, elements * count


@dataclass(frozen=True)
class SourceShare:
    """The share of a source that a result is of.

    Attributes:
        index: I, from 1 on.
        count: N, in how many shares the source was cut.
        images: of the whole source.
        digest: of the list of all its images, see ``SourceDigest``.
    """

    index: int
    count: int
    images: int
    digest: str

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def size(self) -> int:
        """How many of the images it holds."""
        return len(ShardSpec(self.index, self.count).positions(self.images))

    @property
    def note(self) -> str:
        """What the reader of a result must know."""
        positions = ShardSpec(self.index, self.count).positions(self.images)
        return f"share {self} of {self.images} images: images {positions.start + 1} to {positions.stop} in their order"

    def as_json(self) -> dict[str, Any]:
        """The share as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceShare:
        """The share that ``as_json`` gave.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        share = cls(int(value["index"]), int(value["count"]), int(value["images"]), str(value["digest"]))
        if not 1 <= share.index <= share.count <= share.images:
            raise ValueError(f"no share: {share}")
        return share


class SourceDigest:
    """A digest over the list of the images of a source, in order: what each is called, and its label if it has one.

    Bytes of images do not enter: listing them costs nothing, and results have ids of their own for what they are of.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.images = 0

    def add(self, *names: str) -> None:
        """Take in the next image."""
        self._hash.update(json.dumps(names).encode() + b"\n")
        self.images += 1

    @property
    def value(self) -> str:
        """``sha256:`` and hex digits."""
        return f"sha256:{self._hash.hexdigest()}"


def require_complete(shares: Iterable[tuple[str, SourceShare]], again: str) -> list[str]:
    """The places of the shares of one source, in the order of its images.

    Args:
        shares: where each result is, and which share it is of; at least one.
        again: the command that makes a share, without ``--shard``, for remedies.

    Raises:
        ResultError: shares of other sources or another number of them, one that appears twice, or one that is missing;
            names the place and says what to do.
    """
    by_index: dict[int, str] = {}
    base: tuple[str, SourceShare] | None = None
    for place, share in shares:
        if base is None:
            base = place, share
        first_place, first = base
        if share.count != first.count:
            raise ResultError(
                f"{place!r} is share {share}, and {first_place!r} is share {first}: one source was cut in two ways",
                remedy="Merge results that were made with the same N of --shard I/N",
            )
        if (share.images, share.digest) != (first.images, first.digest):
            numbers = "" if share.images == first.images else f" ({share.images} images, not {first.images})"
            raise ResultError(
                f"{place!r} is a share of another list of images than {first_place!r}{numbers}: the source changed in "
                "between, or is another or called differently",
                remedy=f"Run {again} --shard {share} again; what was computed is in the cache",
            )
        if share.index in by_index:
            raise ResultError(
                f"share {share} appears twice: {by_index[share.index]!r} and {place!r}", remedy="Name one of them"
            )
        by_index[share.index] = place
    assert base is not None  # there is one at least
    missing = [str(index) for index in range(1, base[1].count + 1) if index not in by_index]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ResultError(
            f"{counted(len(missing), 'share is', 'shares are')} missing of {base[1].count}: {shown}",
            remedy=f"Run {again} --shard {missing[0]}/{base[1].count}, and name its result too",
        )
    return [by_index[index] for index in sorted(by_index)]
