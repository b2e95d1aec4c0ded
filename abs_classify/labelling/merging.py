"""Decisions into the tables of a folder, and decisions from elsewhere into the folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from abs_classify.labelling.decisions import (
    DecisionLog,
    ReviewDecision,
    ReviewDecisions,
    decision_line,
    read_decisions,
)
from abs_classify.labelling.effective import EffectiveLabels, ReviewSummary, preferred
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.tables import TABLE_FORMATS, TableFormat, TableWriter
from abs_core.canonical import sha256_bytes
from abs_core.errors import UsageError
from abs_core.files import publish
from abs_core.text import quoted

__all__ = ["merge_decisions", "take_in_decisions"]


def take_in_decisions(folder: LabelFolder, places: Iterable[Path]) -> tuple[int, list[str]]:
    """Keep the decisions of others in a folder: what it has already is not added again.

    Args:
        folder: of the run.
        places: files of decisions, as the page without a server saves them, folders of such files, or folders of runs.

    Returns:
        How many decisions are new, and what was left out.

    Raises:
        UsageError: a place does not exist.
        StorageError: one cannot be read, or the folder cannot be written.
    """
    known = read_decisions(folder.path)
    added, left_out = 0, []
    for place in places:
        decisions = ReviewDecisions.at(place)
        left_out += [f"{place}: {problem}" for problem in decisions.problems]
        lines = sorted(decision_line(decision) for decision in decisions if decision not in known)
        if not lines:
            continue
        data = b"".join(lines)
        publish(known.folder / f"from-{sha256_bytes(data)[7:23]}.jsonl", data)
        known.refresh()
        added += len(lines)
    return added, left_out


def merge_decisions(folder: LabelFolder, prefer: str = "") -> ReviewSummary:
    """Write the tables of a folder anew, with what reviewers decided.

    Args:
        folder: of the run; all tables that it has are written.
        prefer: the reviewer who is right where reviewers disagree; nobody if empty. The folder keeps it, as decisions
            of that reviewer that overrule the others.

    Raises:
        UsageError: the reviewer decided nothing, or another process is labelling into the folder.
        StorageError: the folder cannot be read or written.
    """
    decisions = read_decisions(folder.path)
    formats: list[TableFormat] = [name for name in TABLE_FORMATS if (folder.path / f"labels.{name}").exists()]
    with folder.locked():
        if prefer:
            _settle(folder, decisions, prefer)
        for table_format in formats or ["csv"]:
            with TableWriter(folder, table_format) as table:
                table.rewrite()
        labels = EffectiveLabels(folder.classes, decisions.current)
        for _ in labels.rows(folder.rows()):
            pass
    summary = labels.summary
    summary.remarks.extend(decisions.problems)
    return summary


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
