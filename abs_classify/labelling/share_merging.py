"""The folders of all shares of a labelling run, put together: the folder that one run over all images would have made.

A label and its confidence follow from the image alone, and thresholds from the classes, so rows are copied as they are.
What was learned from corrections was learned from the images of one share, and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from abs_classify.labelling.effective import ReviewSummary
from abs_classify.labelling.identity import SHARD_KEY, differences_of, read_label_space, write_label_space
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.learned import learned_of
from abs_classify.labelling.merging import merge_decisions, table_formats, take_in_decisions
from abs_classify.labelling.row_writer import THRESHOLD, is_complete, read_share
from abs_classify.labelling.tables import TABLE_FORMATS
from abs_classify.sharding import SourceShare, require_complete
from abs_core.errors import ResultError, UsageError
from abs_core.files import is_folder, new_folder

__all__ = ["MergedLabels", "merge_labels"]

_AGAIN = "abs label"


class MergedLabels(NamedTuple):
    """The folder of all images, and what reviewers decided in those of the shares."""

    folder: LabelFolder
    review: ReviewSummary


def merge_labels(
    folders: Sequence[Path | str], out: Path | str, *, prefer: str = "", doubtful_first: bool = False
) -> MergedLabels:
    """Put the folders of all shares of a run together into a new one, with the rows in the order of the source.

    It has the tables that any of them has, what reviewers decided in any of them, and is reviewed, learned from and
    exported as any other. An image that several shares met has the row of the first.

    Args:
        folders: of all shares, in any order.
        out: a new folder.
        prefer: as in ``merge_decisions``.
        doubtful_first: whether the tables end up in the order of doubt.

    Raises:
        UsageError: there are no folders, one is no folder of ``label``, or ``out`` holds files.
        ResultError: a share is missing, not finished, appears twice, or is of another run; names its folder.
        StorageError: a folder cannot be read or written.
    """
    target = Path(out)
    if not folders:
        raise UsageError("there are no folders to merge", remedy="Name the folders of all shares")
    if is_folder(target) and any(target.iterdir()):
        raise UsageError(f"{str(target)!r} already holds files", remedy="Name a new folder")
    shards = _in_order([LabelFolder.open(Path(folder)) for folder in folders])
    first = shards[0]
    formats = [name for name in TABLE_FORMATS if any(name in table_formats(shard) for shard in shards)]
    identity = {name: value for name, value in first.run["identity"].items() if name != SHARD_KEY}
    with new_folder(target) as part:
        write_label_space(part, read_label_space(first))
        merged = LabelFolder.create(part, first.classes, identity, first.run["settings"])
        merged.prepare()
        for shard in shards:
            merged.add_rows_of(shard)
        merged.set_fact(THRESHOLD, first.fact(THRESHOLD))
        take_in_decisions(merged, [shard.path for shard in shards])
        review = merge_decisions(merged, prefer, formats=formats, order="doubtful" if doubtful_first else "arrival")
    return MergedLabels(LabelFolder.open(target), review)


def _in_order(shards: Sequence[LabelFolder]) -> list[LabelFolder]:
    """The folders in the order of the source.

    Raises:
        ResultError: they do not belong together, or are not all there.
    """
    shares = [(str(shard.path), _share(shard)) for shard in shards]
    for shard in shards[1:]:
        _refuse_differences(shards[0], shard)
    places = require_complete(shares, _AGAIN)
    by_place = {str(shard.path): shard for shard in shards}
    return [by_place[place] for place in places]


def _share(folder: LabelFolder) -> SourceShare:
    """The share that a folder is of, which must be finished and as the run made it."""
    place = str(folder.path)
    if SHARD_KEY not in folder.run["identity"]:
        raise ResultError(f"{place!r} is no share of a run", remedy=f"Name the folders of `{_AGAIN} --shard I/N`")
    share = read_share(folder) if folder.has_rows else None
    if share is None or not is_complete(folder):
        raise ResultError(
            f"share {folder.run['identity'][SHARD_KEY]} in {place!r} is not finished", remedy="Run its command again"
        )
    if learned_of(folder).generation:
        raise ResultError(
            f"the labels in {place!r} were learned from the corrections of one share",
            remedy=f"Run `{_AGAIN} --shard {share}` again into a new folder, merge that one, take in what was decided "
            f"with `abs label merge MERGED {place}`, and learn there",
        )
    return share


def _refuse_differences(first: LabelFolder, other: LabelFolder) -> None:
    """Refuse two shares of different runs.

    Raises:
        ResultError: says in what they differ.
    """
    wanted = {**first.run["identity"], SHARD_KEY: other.run["identity"][SHARD_KEY]}
    differences = differences_of(other, first.classes, wanted)
    if other.fact(THRESHOLD) != first.fact(THRESHOLD):
        differences.append(f"its threshold is {other.fact(THRESHOLD)}, not {first.fact(THRESHOLD)}")
    if differences:
        raise ResultError(
            f"{str(other.path)!r} is of another run than {str(first.path)!r}: {'; '.join(differences)}",
            remedy="Label all shares with the same options",
        )
