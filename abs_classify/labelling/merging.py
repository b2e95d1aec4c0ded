"""Decisions into the tables of a folder, and decisions from elsewhere into the folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from abs_classify.labelling.decisions import (
    DecisionLog,
    ReviewDecision,
    ReviewDecisions,
    decision_line,
    read_decisions,
)
from abs_classify.labelling.effective import EffectiveLabels, ReviewSummary, preferred
from abs_classify.labelling.identity import SHARD_KEY
from abs_classify.labelling.label_folder import LabelFolder, RowOrder
from abs_classify.labelling.tables import TABLE_FORMATS, TableFormat, TableWriter
from abs_core.canonical import sha256_bytes
from abs_core.errors import UsageError
from abs_core.files import publish
from abs_core.text import counted, quoted

__all__ = ["merge_decisions", "table_formats", "take_in_decisions"]


def take_in_decisions(folder: LabelFolder, places: Iterable[Path]) -> tuple[int, list[str]]:
    """Keep the decisions of others in a folder: what it has already is not added again.

    Args:
        folder: of the run.
        places: files of decisions, as the page without a server saves them, folders of such files, or folders of runs.

    Returns:
        How many decisions are new, and what was left out.

    Raises:
        UsageError: a place does not exist, or is another share of the images that this folder is a share of.
        StorageError: one cannot be read, or the folder cannot be written.
    """
    places = list(places)
    _refuse_shares(folder, places)
    known = read_decisions(folder.path)
    added, left_out = 0, []
    for place in places:
        decisions = ReviewDecisions.at(place)
        left_out += [f"{place}: {problem}" for problem in decisions.problems]
        unsaid: set[str] = set()
        if further := _further_classes(folder, place):
            unsaid = _images_of_no_class(decisions)
        if unsaid:
            names = f"{', '.join(map(quoted, further[:5]))}{', ...' if len(further) > 5 else ''}"
            images = counted(len(unsaid), "image", "images")
            left_out.append(f"{place}: {images} left out: none of the classes, but decided without {names}")
        news = (decision for decision in decisions if decision not in known and decision.image_id not in unsaid)
        lines = sorted(map(decision_line, news))
        if not lines:
            continue
        data = b"".join(lines)
        publish(known.folder / f"from-{sha256_bytes(data)[7:23]}.jsonl", data)
        known.refresh()
        added += len(lines)
    return added, left_out


def _further_classes(folder: LabelFolder, place: Path) -> list[str]:
    """The names of the classes of a folder that another run did not have; none where the place is not of a run.

    "None of the classes" says nothing of a class that was not there to choose.
    """
    if not LabelFolder.exists(place):
        return []
    had = {label.id for label in LabelFolder.open(place).classes}
    return [label.name for label in folder.classes if label.id not in had]


def _images_of_no_class(decisions: ReviewDecisions) -> set[str]:
    """The images that a reviewer said to show none of the classes, unless that was overruled by a class."""
    said = {decision.image_id for decision in decisions if decision.action == "reject"}
    current = decisions.current
    return {image for image in said if image in current and (current[image].conflict or not current[image].label)}


def _refuse_shares(folder: LabelFolder, places: Iterable[Path]) -> None:
    """Refuse to take decisions out of another share, where its rows are probably meant."""
    share = folder.run["identity"].get(SHARD_KEY)
    for place in places if share is not None else ():
        if LabelFolder.exists(place) and LabelFolder.open(place).run["identity"].get(SHARD_KEY) not in (None, share):
            raise UsageError(
                f"{str(folder.path)!r} and {str(place)!r} are shares of one source",
                remedy="Give --out DIR to put them together into a new folder",
            )


def merge_decisions(
    folder: LabelFolder, prefer: str = "", *, formats: Sequence[TableFormat] = (), order: RowOrder = "arrival"
) -> ReviewSummary:
    """Write the tables of a folder anew, with what reviewers decided.

    Args:
        folder: of the run.
        prefer: the reviewer who is right where reviewers disagree; nobody if empty. The folder keeps it, as decisions
            of that reviewer that overrule the others.
        formats: of the tables that are written; those that the folder has if there are none.
        order: of their rows.

    Raises:
        UsageError: the reviewer decided nothing, or another process is labelling into the folder.
        StorageError: the folder cannot be read or written.
    """
    decisions = read_decisions(folder.path)
    with folder.locked():
        if prefer:
            _settle(folder, decisions, prefer)
        for table_format in formats or table_formats(folder):
            with TableWriter(folder, table_format, order=order) as table:
                table.rewrite()
        labels = EffectiveLabels(folder.classes, decisions.current)
        for _ in labels.rows(folder.rows()):
            pass
    summary = labels.summary
    summary.remarks.extend(decisions.problems)
    return summary


def table_formats(folder: LabelFolder) -> list[TableFormat]:
    """The formats of the tables that a folder has, at least CSV."""
    return [name for name in TABLE_FORMATS if (folder.path / f"labels.{name}").exists()] or ["csv"]


def _settle(folder: LabelFolder, decisions: ReviewDecisions, reviewer: str) -> None:
    """Decide conflicts as one reviewer said, in the name of that reviewer."""
    reviewers = {decision.reviewer for decision in decisions}
    if reviewer not in reviewers:
        names = ", ".join(sorted(reviewers)) or "nobody"
        raise UsageError(f"{quoted(reviewer)} decided nothing; who did: {names}", remedy="Name one of them")
    settled = preferred(decisions.current, reviewer)
    overruling = [
        ReviewDecision(
            image,
            decision.action,
            decision.label,
            path=decision.path,
            model_label=decision.model_label,
            resolves=True,
        )
        for image, decision in settled.items()
        if decision != decisions.current[image]
    ]
    with DecisionLog(folder.path, reviewer, decisions) as log:
        log.append(overruling)
