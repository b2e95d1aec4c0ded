"""The results of all shares of a data set, put together: the record that one run over all images would have written.

Nothing is averaged. The predictions of the shares are joined in the order of the images, and everything that a record
says of images is computed from them anew, by the functions that an evaluation uses.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from abs_classify.encoding.samples import SkippedImage
from abs_classify.evaluation.image_notes import ImageSizes, absent_classes_notes, copies_notes
from abs_classify.evaluation.job import result_warnings
from abs_classify.evaluation.metrics import MethodResult, SeedSpread, evaluate_ranks
from abs_classify.evaluation.predictions import MethodPredictions, RunPredictions
from abs_classify.evaluation.published import GuardedRun, PublishedComparison, compare_published, is_whole_split
from abs_classify.evaluation.records import (
    DataFacts,
    MethodFacts,
    Metrics,
    RemarkFacts,
    ResultRecord,
    Run,
    RunFacts,
    ShardRun,
)
from abs_classify.evaluation.results_folder import (
    ResultsFolder,
    StoredResults,
    read_predictions,
    read_result,
    write_predictions,
    write_result,
)
from abs_classify.evaluation.shares import ShareParts, remarks_of
from abs_classify.sharding import SourceShare, require_complete
from abs_core.canonical import digest
from abs_core.errors import ResultError, UsageError
from abs_core.files import is_folder, new_folder
from abs_core.remarks import Remark, RemarkCounter

__all__ = ["merge_results"]

_AGAIN = "abs eval"

#: What all shares must agree in, and what it is called in messages.
_COMMON = {
    "dataset": "data set",
    "data.spec": "data set",
    "data.split": "split",
    "data.sample": "choice of images (--limit, --stratified)",
    "model": "model",
    "pretrained": "weights of the model",
    "weights": "model, its weights, attention backend or number type",
    "bundle": "bundle",
    "classes": "candidate classes",
    "method": "method",
    "method_facts": "views or scorer of the method",
    "texts": "class texts",
    "seeds": "seeds (--seed, --seeds)",
    "versions": "versions of the toolkit or of packages",
}


def merge_results(
    places: Sequence[str | Path],
    out: Path | str | None = None,
    *,
    results: Path | str | None = None,
    command: Sequence[str] = (),
) -> StoredResults:
    """Put the results of all shares of an evaluation together, and keep them as a run of their own.

    Args:
        places: the result files, or the folder, of the run of each share; the id of a run in ``results``; or a
            ``results`` folder, whose newest run counts.
        out: a new folder for the merged files; None for a run in ``results``.
        results: where runs are looked up that are named by their ids, and where the merged one is kept without ``out``.
        command: the command line that the records name, without credentials.

    Raises:
        UsageError: neither ``out`` nor ``results``, or ``out`` holds files.
        ResultError: a share is missing, appears twice, or is of another run than the others; names its place.
        UnknownNameError, StorageError: a place cannot be read, or the folder cannot be written.
    """
    if not places:
        raise UsageError("there are no results to merge", remedy="Name the results of all shares")
    if out is None and results is None:
        raise UsageError("there is no folder for the merged results", remedy="Give out or results")
    run = Run.now(command)
    folder = Path(out) if out is not None else Path(str(results)) / run.id
    if is_folder(folder) and any(folder.iterdir()):
        raise UsageError(f"{str(folder)!r} already holds files", remedy="Name a new folder")
    runs = [_RunOfShare.read(str(place), ResultsFolder(Path(results or ""))) for place in places]
    merged = [_Merger(shards).merge(run) for shards in _matched(runs)]
    written = []
    with new_folder(folder) as part:
        for records, predictions in merged:
            written += write_predictions(part, records, predictions)
        for record in written:
            write_result(part, record)
    return StoredResults(written, {run.id: folder})


@dataclass(frozen=True, eq=False)
class _ShardResults:
    """The results of one share of a data set, with one model and label space.

    Args:
        place: how messages name it: a file.
        records: one for each method, in the order of the table.
        predictions: of its images.
        parts: what adds up.
    """

    place: str
    records: Sequence[ResultRecord]
    predictions: RunPredictions
    parts: ShareParts

    @property
    def share(self) -> SourceShare:
        share = self.records[0].details.share
        assert share is not None  # or it was refused
        return share

    @property
    def key(self) -> tuple[str, str, str, str]:
        record = self.records[0]
        return record.details.data.spec, record.details.weights.name, record.bundle, record.details.classes.digest


@dataclass(frozen=True, eq=False)
class _RunOfShare:
    """The results of the run of one share: one for each data set, model and label space."""

    place: str
    combinations: Sequence[_ShardResults]

    @classmethod
    def read(cls, place: str, folder: ResultsFolder) -> _RunOfShare:
        """The results at a place.

        Raises:
            ResultError, StorageError, UnknownNameError: there are none, or they are of no share.
        """
        path = Path(place)
        if is_folder(path) and not any(path.glob("*.json")) and (runs := ResultsFolder(path).runs()):
            path = runs[-1]
            place = str(path)
        groups: dict[tuple[Path, str], list[tuple[Path, ResultRecord]]] = {}
        for file in folder.find(str(path) if is_folder(path) else place):
            record = read_result(file)
            if record.details.share is None:
                raise ResultError(
                    f"{str(file)!r} is no result of a share", remedy=f"Name the results of `{_AGAIN} --shard I/N`"
                )
            kept = record.details.predictions
            groups.setdefault((file.parent, "" if kept is None else kept.name), []).append((file, record))
        return cls(place, [_shard_results(files) for files in groups.values()])


def _shard_results(files: Sequence[tuple[Path, ResultRecord]]) -> _ShardResults:
    (file, first), *_ = files
    predictions = read_predictions(file.parent, first)
    parts = ShareParts.read(predictions.share, str(file))
    by_method = {record.method: record for _, record in files}
    # the table's order is that in which the first seed of each method was computed
    methods = list(dict.fromkeys(entry.method for entry in predictions.passes))
    if len(by_method) != len(files) or set(by_method) != set(methods):
        lacking = sorted(set(methods) - set(by_method))
        raise ResultError(
            f"{str(file.parent)!r} holds results of a share for {', '.join(sorted(by_method))}, and predictions for "
            f"{', '.join(methods)}",
            remedy="Name the folder of the run" if lacking else "Run the share again; the cache makes that quick",
        )
    shard = _ShardResults(str(file), [by_method[method] for method in methods], predictions, parts)
    _refuse_contradictions(shard)
    return shard


def _refuse_contradictions(shard: _ShardResults) -> None:
    """Refuse a result whose parts are not of one share.

    Raises:
        ResultError: another number of images than the share has, or labels and views that are not said.
    """
    share, skipped = shard.share, shard.records[0].details.data.skipped
    images = len(shard.predictions.images) + len(skipped)
    looked = {record.method for record in shard.records if record.details.method.adaptive is not None}
    is_sound = (
        1 <= share.index <= share.count <= share.images
        and images == share.size
        and set(shard.predictions.labels.tolist()) <= set(shard.parts.labels)
        and looked <= set(shard.parts.looked)
    )
    if not is_sound:
        raise ResultError(
            f"{shard.place!r} does not hold a whole share: it is of {images} images",
            remedy="Run the share again; the cache makes that quick",
        )


def _matched(runs: Sequence[_RunOfShare]) -> Iterator[list[_ShardResults]]:
    """The shares of each data set, model and label space, in the order of the images.

    Raises:
        ResultError: shares that do not belong together, or are not all there.
    """
    for position, base in enumerate(runs[0].combinations):
        shards = []
        for run in runs:
            same = [shard for shard in run.combinations if shard.key == base.key]
            # where nothing is the same, what is at the same place says what differs
            others = same or list(run.combinations[position : position + 1]) or list(run.combinations[:1])
            _refuse_differences(base, others[0])
            shards.append(others[0])
        by_place = {shard.place: shard for shard in shards}
        places = require_complete(((shard.place, shard.share) for shard in shards), _AGAIN)
        yield [by_place[place] for place in places]
    more = next((run for run in runs if len(run.combinations) != len(runs[0].combinations)), None)
    if more is not None:
        raise ResultError(
            f"{more.place!r} holds {len(more.combinations)} combinations of data sets, models and bundles, and "
            f"{runs[0].place!r} {len(runs[0].combinations)}",
            remedy="Run all shares with the same options",
        )


def _common(record: ResultRecord) -> dict[str, Any]:
    """What a result has in common with those of the other shares."""
    details = record.details
    weights = details.weights.model_dump(exclude={"device"})
    method = details.method.model_dump(exclude={"views": True, "adaptive": {"mean_views", "settled_early"}})
    return {
        "dataset": record.dataset,
        "data.spec": details.data.spec,
        "data.split": details.data.split,
        "data.sample": details.data.sample,
        "model": record.model,
        "pretrained": record.pretrained,
        "weights": weights,
        "bundle": record.bundle,
        "classes": details.classes.model_dump(),
        "method": record.method,
        "method_facts": method,
        "texts": details.texts.model_dump(),
        "seeds": details.seeds.seeds,
        "versions": details.versions,
    }


def _refuse_differences(base: _ShardResults, other: _ShardResults) -> None:
    """Refuse two shares of different runs.

    Raises:
        ResultError: says in what they differ.
    """
    methods, others = ([record.method for record in shard.records] for shard in (base, other))
    if methods != others:
        raise ResultError(
            f"{other.place!r} is of the methods {', '.join(others)}, and {base.place!r} of {', '.join(methods)}",
            remedy="Run all shares with the same options",
        )
    for first, second in zip(base.records, other.records, strict=True):
        ours, theirs = _common(first), _common(second)
        for name, word in _COMMON.items():
            if ours[name] != theirs[name]:
                raise ResultError(
                    f"{other.place!r} differs from {base.place!r} in the {word}{_both(theirs[name], ours[name])}",
                    remedy="Run all shares with the same options and the same versions",
                )
    said, also_said = (
        ([(passed.method, passed.seed) for passed in shard.predictions.passes], dict(shard.parts.labels))
        for shard in (base, other)
    )
    if said != also_said:
        raise ResultError(
            f"{other.place!r} has predictions of other methods, seeds or labels than {base.place!r}",
            remedy="Run both shares again; the cache makes that quick",
        )


def _both(theirs: object, ours: object) -> str:
    """What two values are, where that is short to say."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        # digests tell a reader nothing
        names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name) and name != "digest"]
        theirs, ours = ({name: value.get(name) for name in names} for value in (theirs, ours))
    shown = f": {theirs!r}, not {ours!r}"
    return shown if len(shown) < 300 else ""


class _Merger:
    """Makes the records of all images from those of the shares.

    Args:
        shards: all of one data set, model and label space, in the order of the images.
    """

    def __init__(self, shards: Sequence[_ShardResults]) -> None:
        self._shards, self._base = shards, shards[0].records
        self._parts = [shard.parts for shard in shards]
        self._common = shards[0].parts

    def merge(self, run: Run) -> tuple[list[ResultRecord], RunPredictions]:
        """The records, and the predictions that they follow from.

        Args:
            run: that the records are of.
        """
        base = next((result for result in self._results if result.method == "clip"), self._results[0])
        return [
            self._record(record, result, base, run) for record, result in zip(self._base, self._results, strict=True)
        ], self.predictions

    @cached_property
    def predictions(self) -> RunPredictions:
        """Of all images."""
        parts = [shard.predictions for shard in self._shards]
        first = parts[0]
        passes = [
            MethodPredictions(
                entry.method,
                entry.seed,
                np.concatenate([part.passes[number].top for part in parts]),
                np.concatenate([part.passes[number].scores for part in parts]),
                np.concatenate([part.passes[number].ranks for part in parts]),
            )
            for number, entry in enumerate(first.passes)
        ]
        return RunPredictions(
            [image for part in parts for image in part.images],
            [path for part in parts for path in part.paths],
            np.concatenate([part.labels for part in parts]),
            first.class_ids,
            first.class_names,
            passes,
        )

    @cached_property
    def _results(self) -> list[MethodResult]:
        """Of the first seed, one for each method."""
        return [self._result(self.predictions.of(record.method)[0]) for record in self._base]

    def _result(self, predictions: MethodPredictions) -> MethodResult:
        # an image that a further seed could not read counts in none of its numbers
        read = predictions.ranks > 0
        method = predictions.method
        return evaluate_ranks(
            method,
            predictions.ranks[read],
            self.predictions.labels[read],
            len(self._common.selected) or len(self.predictions.class_ids),
            votes=method in self._common.voting,
            predicted=predictions.predicted[read],
        )

    @cached_property
    def _skipped(self) -> list[SkippedImage]:
        """As an evaluation lists them: first those without bytes, then those that could not be decoded."""
        skipped = [(shard.records[0].details.data.skipped, shard.parts.unreadable) for shard in self._shards]
        unreadable = [image for images, count in skipped for image in images[:count]]
        return unreadable + [image for images, count in skipped for image in images[count:]]

    @cached_property
    def _remarks(self) -> tuple[Remark, ...]:
        counter = RemarkCounter(remarks_of(self._common.listed_remarks))
        images = RemarkCounter()
        for parts in self._parts:
            images.extend(remarks_of(parts.image_remarks))
        counter.extend(images.remarks)
        return counter.remarks

    @cached_property
    def _labels(self) -> list[str]:
        """The label of the data set of each image."""
        return [self._common.labels[position] for position in self.predictions.labels.tolist()]

    @cached_property
    def _published(self) -> PublishedComparison:
        record, predictions = self._base[0], self.predictions
        data, names = record.details.data, list(predictions.class_names)
        images = self._shards[0].share.images
        run = GuardedRun(
            benchmark=data.benchmark,
            split=data.split,
            whole=is_whole_split(data.benchmark, data.split, images, data.sample) and not self._skipped,
            model=record.details.weights.name,
            names=dict(zip(predictions.class_ids, names, strict=True)),
            candidates=[names[position] for position in self._common.selected] or names,
            texts={other.method: other.details.texts.digest for other in self._base},
        )
        return compare_published(run, self._results)

    @cached_property
    def _notes(self) -> list[str]:
        predictions, near = self.predictions, self._published.checks
        images = list(zip(predictions.images, self._labels, predictions.paths, strict=True))
        return [
            *map(str, self._remarks),
            *self._common.fixed_notes,
            *absent_classes_notes(self._common.competing, set(self._labels)),
            *copies_notes(images),
            *ImageSizes.sum(parts.sizes for parts in self._parts).notes(),
            *self._common.plan_notes,
            *(check.text(result.top1) for check, result in near if not check.off),
            *self._published.notes,
            *_each_once(note for parts in self._parts for note in parts.run_notes),
        ]

    @cached_property
    def _data(self) -> DataFacts:
        return self._base[0].details.data.model_copy(
            update={
                "images": len(self.predictions.images),
                "images_digest": digest(list(self.predictions.images)),
                "labels_digest": digest(self._labels),
                "classes_with_images": len(set(self.predictions.labels.tolist())),
                "skipped": self._skipped,
                "remarks": [RemarkFacts(**remark.as_json()) for remark in self._remarks],
            }
        )

    def _run_facts(self, run: Run) -> RunFacts:
        """Seconds are those of all shares together: what the images cost, not how long it took."""
        runs = [shard.records[0].details.run for shard in self._shards]
        stages = list(_each_once(stage for facts in runs for stage in facts.stage_seconds))
        return RunFacts(
            id=run.id,
            created=run.created,
            command=list(run.command),
            seconds=round(sum(facts.seconds for facts in runs), 3),
            stage_seconds={
                stage: round(sum(facts.stage_seconds.get(stage, 0.0) for facts in runs), 3) for stage in stages
            },
        )

    def _method_facts(self, record: ResultRecord) -> MethodFacts:
        method = record.details.method
        if method.adaptive is None:
            return method
        looked = [parts.looked[record.method] for parts in self._parts]
        images = len(self.predictions.images)
        return method.with_views(sum(views for views, _ in looked) / images, sum(early for _, early in looked) / images)

    def _record(self, record: ResultRecord, result: MethodResult, base: MethodResult, run: Run) -> ResultRecord:
        seeds = self.predictions.of(record.method)
        accuracies = [self._result(predictions).top1.value for predictions in seeds]
        devices = _each_once(shard.records[0].details.weights.device for shard in self._shards)
        details = record.details.model_copy(
            update={
                "run": self._run_facts(run),
                "share": None,
                "shards": [
                    ShardRun(
                        run=shard.records[0].details.run,
                        share=shard.share,
                        device=shard.records[0].details.weights.device,
                    )
                    for shard in self._shards
                ],
                "data": self._data,
                "weights": record.details.weights.model_copy(update={"device": ", ".join(devices)}),
                "method": self._method_facts(record),
                "seeds": SeedSpread.of(accuracies, seeds[0].seed),
                "top1": result.top1,
                "top5": result.top5,
                "alarm": result.alarm,
                "difference": None if result is base else result.minus(base),
                "right": base64.b64encode(np.packbits(result.right).tobytes()).decode("ascii"),
                "predictions": None,
                "baselines": [check for check, _ in self._published.checks if check.method == record.method],
                "warnings": result_warnings(self._results, self._published, self._skipped),
                "notes": self._notes,
            }
        )
        metrics = Metrics(
            acc1=result.top1.value,
            acc5=None if result.top5 is None else result.top5.value,
            mean_per_class_recall=result.mean_recall,
        )
        return record.model_copy(update={"metrics": metrics, "details": details})


def _each_once(values: Iterable[str]) -> Iterable[str]:
    return dict.fromkeys(values)
