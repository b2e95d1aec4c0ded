"""Two runs compared image by image: which results are paired, and how much better the first is.

Results of the same images are paired in their order; of other images by their ids, if predictions were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abs_classify.evaluation.paired_tests import (
    MODELS,
    PairedTest,
    align_draws,
    common_images,
    corrected_p_values,
    power_note,
)
from abs_classify.evaluation.predictions import RunPredictions
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.results_folder import PredictionReader, read_results
from abs_classify.evaluation.tables import render_differences
from abs_core.errors import ResultError
from abs_core.extras import DISTRIBUTION
from abs_core.text import printable

__all__ = ["ResultComparison", "Results", "compare", "comparison_text", "draws_views", "pair_results"]


@dataclass(frozen=True)
class ResultComparison:
    """Two results of the same images.

    Attributes:
        first, second: the results.
        paired: first minus second, on the images that both have.
        corrected_p: its p-value, corrected by Holm for all comparisons of the table.
        is_complete: whether all draws were compared; of results whose predictions were not kept only the first was.
    """

    first: ResultRecord
    second: ResultRecord
    paired: PairedTest
    corrected_p: float
    is_complete: bool

    def __repr__(self) -> str:
        test = self.paired
        points = f"{100 * test.difference:+.1f} points [{100 * test.low:+.1f}, {100 * test.high:+.1f}]"
        sides = f"{self.first.method!r} minus {self.second.method!r} on {self.first.dataset!r}"
        return f"<ResultComparison: {sides}, {points}, p {self.corrected_p:.3g}>"

    @property
    def conclusive(self) -> bool:
        """Whether the interval leaves out 0 and the corrected p is below 0.05."""
        return self.paired.shows(self.corrected_p)

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
        return {
            "dataset": self.first.dataset,
            **self.paired.to_dict(),
            "corrected_p": self.corrected_p,
            "conclusive": self.conclusive,
            "all_draws": self.is_complete,
            **sides,
        }


#: Results, as ``evaluate`` returns them, one of them, a result file, or a folder of such files.
Results = Sequence[ResultRecord] | ResultRecord | str | Path


def compare(first: Results, second: Results) -> list[ResultComparison]:
    """Compare two runs on the same images, method by method: paired differences with intervals and exact p-values.

    Results of one method on the same images with the same labels are paired; of one data set with other images, those
    images that both have, if predictions were kept. Where both runs have several of a method, because they cross models
    or bundles, those of the same model and bundle are paired; failing that, of the same model; failing that, of the
    same bundle; failing that, each with each. Two single results are paired whatever their methods.

    Where both have several draws of the views, or one has and the other draws nothing, all draws are compared.

    Args:
        first, second: results, as ``evaluate`` returns them, or result files.

    Raises:
        ResultError: they have no method on the same images in common, have other labels, or are damaged.
        StorageError: a file cannot be read.
    """
    ours, theirs = _records(first), _records(second)
    readers = (PredictionReader.of(ours), PredictionReader.of(theirs))
    pairs = [(ours[0], theirs[0])] if len(ours) == len(theirs) == 1 else _pairs(ours, theirs, readers)
    if not pairs:
        raise ResultError(
            "the two runs have no method on the same images in common",
            remedy="Compare runs on the same images, or name two files",
        )
    tests = [pair_results(*pair, *readers) for pair in pairs]
    corrected = corrected_p_values([test for test, _ in tests])
    return [
        ResultComparison(*pair, test, 1.0 if p_value is None else p_value, is_complete)
        for pair, (test, is_complete), p_value in zip(pairs, tests, corrected, strict=True)
    ]


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
        method = " / ".join(dict.fromkeys(record.method for record in both))
        rows.append(((comparison.first.dataset, *labels, method), comparison.paired, comparison.corrected_p))
    heads = [_side_text(name, side) for name, side in sides.items()]
    return "\n".join([*heads, render_differences(rows, ["data set", *names, "method"]), *_notes(comparisons)])


def _notes(comparisons: Sequence[ResultComparison]) -> list[str]:
    """What the table's numbers mean, beyond what it says itself."""
    notes = [MODELS[several] for several in sorted({comparison.paired.draws > 1 for comparison in comparisons})]
    notes.append(power_note([comparison.paired for comparison in comparisons]))
    for comparison in comparisons:
        sizes = [record.details.data.images for record in (comparison.first, comparison.second)]
        if sizes != [comparison.paired.images] * 2:
            notes.append(
                f"{comparison.first.dataset}: {comparison.paired.images} images are in both runs, of "
                f"{sizes[0]} in the first and {sizes[1]} in the second"
            )
        runs = (comparison.first.details, comparison.second.details)
        versions = [details.versions.get(DISTRIBUTION, "") for details in runs]
        if all(versions) and versions[0] != versions[1]:
            notes.append(
                f"the first run is of {DISTRIBUTION} {versions[0]}, the second of {versions[1]}: the changelog says "
                'what changed, under "Changes that affect results"'
            )
    if not all(comparison.is_complete for comparison in comparisons):
        notes.append("only the first seed is compared where predictions were not kept: run the evaluation again")
    return [printable(note) for note in dict.fromkeys(notes)]


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


def pair_results(
    first: ResultRecord, second: ResultRecord, first_reader: PredictionReader, second_reader: PredictionReader
) -> tuple[PairedTest, bool]:
    """First minus second, over the images and draws that both have, and whether that is all of their draws.

    Raises:
        ResultError: they have no images in common, have other labels, or are damaged.
        StorageError: a file of predictions cannot be read.
    """
    has_same_images = first.details.data.images_digest == second.details.data.images_digest
    if has_same_images and not first.may_share_labels(second):
        raise ResultError(
            f"two results of {first.dataset!r} and {second.dataset!r} are of the same images with other labels and "
            "cannot be paired",
            remedy="Run the evaluation with the older labels again; the cache makes that quick",
        )
    has_several = max(len(record.details.seeds.seeds) for record in (first, second)) > 1
    if has_same_images and not has_several:
        return PairedTest.of(first.right, second.right), True
    kept = first_reader.find(first), second_reader.find(second)
    if kept[0] is not None and kept[1] is not None:
        return _pair_draws(first, kept[0], second, kept[1]), True
    if has_same_images:
        return PairedTest.of(first.right, second.right), False
    raise _different_images(first, second)


def _pair_draws(
    first: ResultRecord, first_run: RunPredictions, second: ResultRecord, second_run: RunPredictions
) -> PairedTest:
    places = common_images(first_run, second_run)
    passes = align_draws(
        first_run.of(first.method),
        second_run.of(second.method),
        first_draws=draws_views(first, first_run),
        second_draws=draws_views(second, second_run),
    )
    ranks = [np.stack([one.ranks for one in side])[:, place] for side, place in zip(passes, places, strict=True)]
    # an image that could not be read with one of the seeds is left out of all
    is_read = (ranks[0] > 0).all(0) & (ranks[1] > 0).all(0)
    if not is_read.any():
        raise _different_images(first, second)
    return PairedTest.of(ranks[0][:, is_read] == 1, ranks[1][:, is_read] == 1)


def draws_views(record: ResultRecord, run: RunPredictions) -> bool:
    """Whether a method gives other labels with another seed: its views or texts are drawn."""
    if len(run.of(record.method)) > 1:
        return True
    if len({predictions.seed for predictions in run.passes}) > 1:
        return False  # the others of its run were repeated, and it was not
    details = record.details
    is_whole = all(key.get("kind") == "whole" for key in details.method.view_keys)
    return not is_whole or details.texts.source == "random-words" or details.texts.control is not None


def _different_images(first: ResultRecord, second: ResultRecord) -> ResultError:
    return ResultError(
        f"two results of {first.dataset!r} and {second.dataset!r} are of different images and cannot be paired",
        remedy="Compare runs on the same images, with the same --limit and --on-error",
    )


def _pairs(
    ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord], readers: tuple[PredictionReader, PredictionReader]
) -> list[tuple[ResultRecord, ResultRecord]]:
    """Which results are paired; where all differ in their labels they are returned as they are, to be refused."""
    pairs = _grouped(ours, theirs, lambda record: record.details.data.images_digest)
    paired = {id(record) for pair in pairs for record in pair}
    our_rest, their_rest = ([record for record in side if id(record) not in paired] for side in (ours, theirs))
    of_one_set = _grouped(our_rest, their_rest, lambda record: record.details.data.spec)
    overlapping = [pair for pair in of_one_set if _share_images(pair, readers)]
    return [(left, right) for left, right in pairs if left.may_share_labels(right)] + overlapping or pairs


def _share_images(pair: tuple[ResultRecord, ResultRecord], readers: tuple[PredictionReader, PredictionReader]) -> bool:
    kept = [reader.find(record) for record, reader in zip(pair, readers, strict=True)]
    images = [set(predictions.images) for predictions in kept if predictions is not None]
    return len(images) == 2 and not images[0].isdisjoint(images[1])


def _grouped(
    ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord], images_of: Callable[[ResultRecord], str]
) -> list[tuple[ResultRecord, ResultRecord]]:
    groups: dict[tuple[str, str], tuple[list[ResultRecord], list[ResultRecord]]] = {}
    for side, records in enumerate((ours, theirs)):
        for record in records:
            groups.setdefault((images_of(record), record.method), ([], []))[side].append(record)
    return [pair for first, second in groups.values() for pair in _closest(first, second)]


def _closest(ours: Sequence[ResultRecord], theirs: Sequence[ResultRecord]) -> list[tuple[ResultRecord, ResultRecord]]:
    pairs = [(left, right) for left in ours for right in theirs]
    if min(len(ours), len(theirs)) < 2:
        return pairs
    for names in (("model", "bundle"), ("model",), ("bundle",)):
        same = [(left, right) for left, right in pairs if left.labels(names) == right.labels(names)]
        if same:
            return same
    return pairs
