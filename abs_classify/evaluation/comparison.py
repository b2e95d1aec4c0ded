"""Two runs compared image by image: which results are paired, and how much better the first is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abs_classify.evaluation.metrics import PairedComparison
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import read_results
from abs_classify.evaluation.tables import render_differences
from abs_core.errors import ResultError
from abs_core.text import printable

__all__ = ["ResultComparison", "compare", "comparison_text"]


@dataclass(frozen=True)
class ResultComparison:
    """Two results of the same images.

    Attributes:
        first, second: the results.
        paired: first minus second.
    """

    first: ResultRecord
    second: ResultRecord
    paired: PairedComparison

    def to_dict(self) -> dict[str, Any]:
        """JSON values: what was run on either side, counts, and all digits."""
        sides = {
            name: {
                "run": record.details.run.id,
                "model": record.details.weights.name,
                "bundle": record.bundle,
                "classes": record.details.classes.source,
                "method": record.method,
            }
            for name, record in (("first", self.first), ("second", self.second))
        }
        return {"dataset": self.first.dataset, "images": self.paired.images, **self.paired.model_dump(), **sides}


#: Results, as ``evaluate`` returns them, one of them, a result file, or a folder of such files.
Results = Sequence[ResultRecord] | ResultRecord | str | Path


def compare(first: Results, second: Results) -> list[ResultComparison]:
    """Compare two runs on the same images, method by method: paired differences with intervals and exact p-values.

    Results of one method on the same images with the same labels are paired. Where both runs have several of a method,
    because they cross models or bundles, those of the same model and bundle are paired; failing that, of the same
    model; failing that, of the same bundle; failing that, each with each. Two single results are paired whatever their
    methods.

    Args:
        first, second: results, as ``evaluate`` returns them, or result files.

    Raises:
        ResultError: they have no method on the same images in common, have other labels, or are damaged.
        StorageError: a file cannot be read.
    """
    ours, theirs = _records(first), _records(second)
    pairs = [(ours[0], theirs[0])] if len(ours) == len(theirs) == 1 else _pairs(ours, theirs)
    if not pairs:
        raise ResultError(
            "the two runs have no method on the same images in common",
            remedy="Compare runs on the same images, or name two files",
        )
    return [ResultComparison(*pair, _paired(*pair)) for pair in pairs]


def comparison_text(comparisons: Sequence[ResultComparison]) -> str:
    """What was run on either side, and a table of the differences; positive where the first is better.

    Models and bundles have columns where one of the two sides holds several; ``a / b`` is that of the first and of the
    second.
    """
    sides = {
        "first": [comparison.first for comparison in comparisons],
        "second": [comparison.second for comparison in comparisons],
    }
    names = [
        name
        for name in ("model", "bundle")
        if any(len({record.label(name) for record in side}) > 1 for side in sides.values())
    ]
    rows = []
    for comparison in comparisons:
        both = (comparison.first, comparison.second)
        labels = [" / ".join(dict.fromkeys(record.label(name) for record in both)) for name in names]
        rows.append(((comparison.first.dataset, *labels, comparison.first.method), comparison.paired))
    heads = [_side_text(name, side) for name, side in sides.items()]
    return "\n".join([*heads, render_differences(rows, ["data set", *names, "method"])])


def _side_text(name: str, records: Sequence[ResultRecord]) -> str:
    facts = {
        "run": [record.details.run.id for record in records],
        "model": [record.details.weights.name for record in records],
        "classes from": [record.details.classes.source for record in records],
    }
    parts = [f"{title} {', '.join(dict.fromkeys(values))}" for title, values in facts.items()]
    return printable(f"{name}: {'; '.join(parts)}")


def _records(results: Results) -> Sequence[ResultRecord]:
    if isinstance(results, str | Path):
        return read_results(Path(results))
    return [results] if isinstance(results, ResultRecord) else results


def _paired(first: ResultRecord, second: ResultRecord) -> PairedComparison:
    """First minus second, where both are of the same images in the same order with the same labels."""
    if first.details.data.images_digest != second.details.data.images_digest:
        raise ResultError(
            f"two results of {first.dataset!r} and {second.dataset!r} are of different images and cannot be paired",
            remedy="Compare runs on the same images, with the same --limit and --on-error",
        )
    if not first.may_share_labels(second):
        raise ResultError(
            f"two results of {first.dataset!r} and {second.dataset!r} are of the same images with other labels and "
            "cannot be paired",
            remedy="Run the evaluation with the older labels again; the cache makes that quick",
        )
    names = [f"{record.method} of {record.details.run.id}" for record in (first, second)]
    return PairedComparison.of_images(names[0], first.right, names[1], second.right)


def _pairs(ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord]) -> list[tuple[ResultRecord, ResultRecord]]:
    """Which results are paired; where all differ in their labels they are returned as they are, to be refused."""
    groups: dict[tuple[str, str], tuple[list[ResultRecord], list[ResultRecord]]] = {}
    for side, records in enumerate((ours, theirs)):
        for record in records:
            key = (record.details.data.images_digest, record.method)
            groups.setdefault(key, ([], []))[side].append(record)
    pairs = [pair for first, second in groups.values() for pair in _closest(first, second)]
    return [(left, right) for left, right in pairs if left.may_share_labels(right)] or pairs


def _closest(ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord]) -> list[tuple[ResultRecord, ResultRecord]]:
    pairs = [(left, right) for left in ours for right in theirs]
    if min(len(ours), len(theirs)) < 2:
        return pairs
    for names in (("model", "bundle"), ("model",), ("bundle",)):
        same = [(left, right) for left, right in pairs if left.labels(names) == right.labels(names)]
        if same:
            return same
    return pairs
