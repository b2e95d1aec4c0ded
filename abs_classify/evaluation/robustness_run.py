"""Measures how far results can be trusted: every image is encoded once, and classified again under other conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.encoding.feature_store import opened_store
from abs_classify.encoding.stages import ModelSettings, open_stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.records import ResultRecord, Run, records_of
from abs_classify.evaluation.robustness import (
    AddedClassEffect,
    ClassOrderEffect,
    ConfidenceQuality,
    RegimeEffect,
    StreamOrderEffect,
    UnknownClassDetection,
    assess_confidence,
    auroc,
    detect,
    estimate_mean,
    estimate_share,
    subset_values,
)
from abs_classify.evaluation.robustness_draws import (
    added_space,
    chosen_classes,
    default_counts,
    distinct_classes,
    long_tail,
    reordered_space,
    subspace,
)
from abs_classify.evaluation.robustness_trials import MethodLabels, RobustnessTrials
from abs_classify.evaluation.sweep import SweepOptions, as_label_spaces, plan_sweep, run_sweep
from abs_classify.methods.random import shuffled_order
from abs_classify.methods.table import Method, get_method
from abs_core.errors import UsageError
from abs_core.progress import Progress, no_progress
from abs_core.result_tables import data_frame
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.encoding.samples import OnError
    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.encoding.stages import Stages
    from abs_classify.evaluation.job import Evaluation
    from abs_classify.evaluation.sweep import Sweep
    from abs_classify.images import Truncated
    from abs_classify.models.store import WeightsStore
    from abs_core.descriptions import LabelSpace
    from abs_core.labels import LabelSet

__all__ = ["RobustnessResults", "RobustnessSettings", "measure_robustness"]

# images below which intervals are too narrow or too wide to rely on
_FEW_IMAGES = 30

_REGIMES = ("few classes", "long tail")


@dataclass(frozen=True)
class RobustnessSettings:
    """What is drawn, and how often.

    Args:
        draws: how often classes are hidden, reordered, added or thinned out, and streams shuffled.
        hidden: the share of the classes with images that is hidden, whose images are then unknown.
        present: the share of the classes with images that a regime of few classes has images of; all are candidates.
        imbalance: images of the largest class over those of the smallest in the long tail.
        added: classes that no image shows; None for none.
        added_counts: how many of them are added; empty for 10, 100, 1,000, ... and all.

    Raises:
        UsageError: a number that is out of its range.
    """

    draws: int = 5
    hidden: float = 0.5
    present: float = 0.25
    imbalance: float = 10.0
    added: LabelSpace | None = None
    added_counts: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise UsageError(f"draws must be 1 or more, got {self.draws}", remedy="Give the number of draws")
        for name, share in (("hidden", self.hidden), ("present", self.present)):
            if not 0 < share < 1:
                raise UsageError(f"{name} must be above 0 and below 1, got {share:g}", remedy="Give a share, as 0.5")
        if not 1 < self.imbalance < np.inf:
            raise UsageError(f"imbalance must be above 1, got {self.imbalance:g}", remedy="Give a factor, as 10")
        if self.added_counts and self.added is None:
            raise UsageError(
                "numbers of added classes need classes to add", remedy="Name them with --add-labels or --add-bundle"
            )
        if any(count < 1 for count in self.added_counts):
            raise UsageError(
                f"numbers of added classes must be 1 or more, got {min(self.added_counts)}",
                remedy="Leave out --add-counts",
            )


@dataclass(frozen=True, repr=False)
class RobustnessResults:
    """How far the results of methods can be trusted.

    Attributes:
        confidences: what the confidences of each method are worth, and the reliability diagram.
        unknown: known against hidden classes; empty where none could be hidden.
        class_order: what another order of the classes changes.
        added: what added classes change, method by method, fewest first; empty where none were named.
        streams: what another order of the images changes; of stream methods alone.
        regimes: what methods reach on parts of the images; empty where the images are of one class.
        settings: what was drawn.
        seed: of all draws.
        results: a record for each method, with model, data set and all that can change the numbers.
        remarks: what must be said beside the numbers.
        work: how many images, views and texts were asked for, and how many of them were computed.
    """

    confidences: Sequence[ConfidenceQuality]
    unknown: Sequence[UnknownClassDetection]
    class_order: Sequence[ClassOrderEffect]
    added: Sequence[AddedClassEffect]
    streams: Sequence[StreamOrderEffect]
    regimes: Sequence[RegimeEffect]
    settings: RobustnessSettings
    seed: int
    results: Sequence[ResultRecord]
    remarks: Sequence[str]
    work: WorkCounts

    def __str__(self) -> str:
        """Tables for a terminal."""
        return self.to_text("text").rstrip("\n")

    def __repr__(self) -> str:
        methods = ", ".join(entry.method for entry in self.confidences)
        images = counted(self.results[0].details.data.images, "image", "images")
        return f"<RobustnessResults of {methods}: {images}, {counted(self.settings.draws, 'draw', 'draws')}>"

    def _repr_html_(self) -> str:
        from abs_classify.evaluation.robustness_tables import robustness_html

        return robustness_html(self)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: a row for each number, as in the CSV.

        Raises:
            UsageError: pandas is not installed.
        """
        from abs_classify.evaluation.robustness_tables import NUMBER_COLUMNS, robustness_rows

        rows = [dict(zip(NUMBER_COLUMNS, row, strict=True)) for row in robustness_rows(self)]
        return data_frame(rows, NUMBER_COLUMNS)

    def to_text(self, form: str) -> str:
        """The tables as "text", "markdown" or "latex", or every number as "csv"; ends with a line feed."""
        from abs_classify.evaluation.robustness_tables import robustness_text

        return robustness_text(self, form)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with all digits."""
        from abs_classify.evaluation.robustness_tables import robustness_value

        return robustness_value(self)


def measure_robustness(
    dataset: str | Dataset,
    methods: Sequence[str | Method] = ("clip", "cupl", "wca", "abs"),
    settings: RobustnessSettings | None = None,
    *,
    descriptions: LabelSpace | None = None,
    labels: LabelSet | Sequence[str] | None = None,
    model: str = "embedded",
    views: int | None = None,
    templates: str = "plain",
    seed: int = 0,
    limit: int | None = None,
    stratified: bool = False,
    on_error: OnError = "stop",
    truncated: Truncated = "refuse",
    attention: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int = 64,
    runtime: str = "auto",
    threads: int | None = None,
    weights: WeightsStore | None = None,
    cache: PersistentStore | Path | str | None = None,
    progress: Progress = no_progress,
) -> RobustnessResults:
    """Measure calibration, unknown classes, and what the order and the number of classes and images change.

    Args:
        dataset: labelled images, each of which is encoded once.
        methods: rows of the table, or their names.
        settings: what is drawn, and how often.
        views: how many of each kind; None for each method's own number.
        descriptions, labels, model, templates, seed, and what follows them: as in ``evaluate``. The seed is that of
            views and of all draws.

    Raises:
        UsageError: a number is out of range, or the cache has no room for the features.
        AbsError: what is named cannot be used, or an image cannot be read; see ``evaluate``.
    """
    if views is not None and (not isinstance(views, int) or views < 1):
        raise UsageError(
            f"views must be a whole number from 1 on, got {views!r}",
            remedy="Give a number: with adaptive views other candidate classes would have images looked at otherwise",
        )
    rows = [get_method(method) if isinstance(method, str) else method for method in dict.fromkeys(methods)]
    options = SweepOptions(
        rows, views, templates, limit=limit, stratified=stratified, seed=seed, on_error=on_error, truncated=truncated
    )
    sweep = plan_sweep([dataset], [model], as_label_spaces(descriptions, labels), options)
    if threads is not None:
        from abs_classify.threads import set_threads

        set_threads(threads)
    how = ModelSettings(attention, device, dtype, seed, batch_size, runtime)
    with opened_store(cache) as store:
        stages = open_stages(store, model, how, weights)
        return _measure(sweep, rows, options, settings or RobustnessSettings(), stages, progress)


def _measure(
    sweep: Sweep,
    methods: Sequence[Method],
    options: SweepOptions,
    settings: RobustnessSettings,
    stages: Stages,
    progress: Progress,
) -> RobustnessResults:
    added = _AddedClasses.of(sweep.jobs[0].label_space, settings)
    with progress("classifying", len(sweep.jobs[0].split.samples), "images") as advance:
        trials = RobustnessTrials(sweep, methods, options, stages, advance)
        base = trials.begin()
    conditions = _Conditions(trials, settings, base, added)
    with progress("classifying under other conditions", conditions.images, "images") as advance:
        trials.advance = advance
        unknown, class_order = conditions.unknown(), conditions.class_order()
        further, streams, regimes = conditions.added_classes(), conditions.streams(), conditions.regimes()
    confidences = [assess_confidence(name, base[name].confidences, conditions.right[name]) for name in base]
    results = _records(sweep, stages)
    remarks = [*_details(results), *conditions.remarks(class_order, regimes)]
    return RobustnessResults(
        confidences,
        unknown,
        class_order,
        further,
        streams,
        regimes,
        settings,
        options.seed,
        results,
        remarks,
        trials.work,
    )


class _Conditions:
    """The conditions of a measurement, and what methods say under them beside what they say without.

    Args:
        trials: with the images that could be read.
        settings: what is drawn.
        base: what each method says without conditions.
        added: classes that no image shows.
    """

    def __init__(
        self,
        trials: RobustnessTrials,
        settings: RobustnessSettings,
        base: Mapping[str, MethodLabels],
        added: _AddedClasses,
    ) -> None:
        self.trials, self.settings, self.base, self.added = trials, settings, base, added
        self.space, self.seed, self.truth = trials.space, trials.options.seed, trials.truth
        self.right = {name: outcome.labels == self.truth for name, outcome in base.items()}
        ids = self.space.labels.ids
        self.labels = [ids[position] for position in self.truth.tolist()]
        self.with_images = sorted(set(self.labels))
        self.stream_methods = [method for method in trials.methods if method.stream]
        self.parts = {name: self._parts(name) for name in _REGIMES} if len(self.with_images) > 1 else {}

    @property
    def images(self) -> int:
        """How many images will be classified under all conditions together."""
        passes = self.settings.draws * (1 + self.can_hide) + sum(repeats for _, repeats in self._added_counts())
        passes += self.settings.draws if self.stream_methods else 0
        return passes * len(self.truth) + sum(len(part) for parts in self.parts.values() for part in parts)

    @property
    def can_hide(self) -> bool:
        """Whether a class can be hidden, so that images of others are left, and two candidates."""
        return len(self.with_images) > 1 and bool(self._hidden(0))

    def _hidden(self, draw: int) -> list[str]:
        """The classes that are hidden; with a single candidate every confidence would be 1."""
        chosen = chosen_classes(self.with_images, self.settings.hidden, self.seed, f"hidden classes {draw}")
        return chosen[: max(0, len(self.trials.selected or self.space.labels.ids) - 2)]

    def unknown(self) -> list[UnknownClassDetection]:
        """Known against hidden classes."""
        if not self.can_hide:
            return []
        draws: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]]] = {}
        labels = np.array(self.labels)
        for draw in range(self.settings.draws):
            hidden = set(self._hidden(draw))
            remaining = [class_id for class_id in self.space.labels.ids if class_id not in hidden]
            known = ~np.isin(labels, list(hidden))
            for name, outcome in self.trials.labels(subspace(self.space, remaining), confidences=True).items():
                draws.setdefault(name, []).append((outcome.confidences, known, outcome.labels == self.truth))
        return [
            UnknownClassDetection(
                name,
                len(self._hidden(0)),
                len(self.with_images),
                detect([(scores, known) for scores, known, _ in of_method], self.seed),
                estimate_mean(np.array([subset_values(right, known / known.sum()) for _, known, right in of_method])),
                [auroc(scores, known) for scores, known, _ in of_method],
            )
            for name, of_method in draws.items()
        ]

    def class_order(self) -> list[ClassOrderEffect]:
        """Labels that change with the order of the classes."""
        changed: dict[str, list[NDArray[np.bool_]]] = {}
        for draw in range(self.settings.draws):
            space = reordered_space(self.space, self.seed, f"class order {draw}")
            for name, outcome in self.trials.labels(space).items():
                changed.setdefault(name, []).append(outcome.labels != self.base[name].labels)
        streams = {method.name for method in self.stream_methods}
        return [
            ClassOrderEffect(name, estimate_share(np.array(rows)), name in streams, int(np.any(rows, axis=0).sum()))
            for name, rows in changed.items()
        ]

    def added_classes(self) -> list[AddedClassEffect]:
        """What classes do that no image shows."""
        effects: dict[tuple[str, int], list[NDArray[np.int32]]] = {}
        for count, repeats in self._added_counts():
            for draw in range(repeats):
                for name, outcome in self.trials.labels(self.added.space(self.space, count, self.seed, draw)).items():
                    effects.setdefault((name, count), []).append(outcome.labels)
        return [
            self._added_effect(name, count, np.array(labels))
            for name in self.base
            for (of_method, count), labels in effects.items()
            if of_method == name
        ]

    def _added_counts(self) -> list[tuple[int, int]]:
        """How many classes are added, and how often; all of them can be added in one way only."""
        available = len(self.added.class_ids)
        return [(count, 1 if count == available else self.settings.draws) for count in self.added.counts]

    def _added_effect(self, name: str, count: int, labels: NDArray[np.int32]) -> AddedClassEffect:
        lost, right = labels >= len(self.space.labels.ids), labels == self.truth
        return AddedClassEffect(
            name,
            count,
            estimate_share(right),
            estimate_mean(right.astype(np.float64) - self.right[name], least=-1),
            estimate_share(lost),
            estimate_share(~lost & (labels != self.base[name].labels)),
        )

    def streams(self) -> list[StreamOrderEffect]:
        """What the order of the images does to stream methods."""
        if not self.stream_methods:
            return []
        orders = [self.base] + [
            self.trials.labels(self.space, methods=self.stream_methods, stream_seed=self.seed + draw)
            for draw in range(1, self.settings.draws)
        ]
        listed = self.trials.labels(self.space, methods=self.stream_methods, stream_seed=None)
        effects = []
        for name in (method.name for method in self.stream_methods):
            labels = np.array([order[name].labels for order in orders])
            right, changed = labels == self.truth, labels[1:] != labels[0]
            effects.append(
                StreamOrderEffect(
                    name,
                    estimate_share(right),
                    right.mean(1).tolist(),
                    estimate_share(changed) if len(changed) else None,
                    float((listed[name].labels == self.truth).mean()),
                )
            )
        return effects

    def regimes(self) -> list[RegimeEffect]:
        """What methods reach on parts of the images."""
        effects = []
        for regime, parts in self.parts.items():
            labels: dict[str, list[NDArray[np.int32]]] = {}
            for part in parts:
                for name, outcome in self.trials.labels(self.space, part=part).items():
                    labels.setdefault(name, []).append(outcome.labels)
            effects += [self._regime_effect(name, regime, parts, of_method) for name, of_method in labels.items()]
        return effects

    def _regime_effect(
        self, name: str, regime: str, parts: Sequence[NDArray[np.int64]], labels: Sequence[NDArray[np.int32]]
    ) -> RegimeEffect:
        base = self.base[name].labels
        rows: dict[str, list[NDArray[np.float64]]] = {}
        sizes = []
        for part, of_part in zip(parts, labels, strict=True):
            truth = self.truth[part]
            _, places, counts = np.unique(truth, return_inverse=True, return_counts=True)
            sizes.append((len(part), len(counts), counts.max() / counts.min()))
            each, by_class = np.full(len(part), 1 / len(part)), 1 / (len(counts) * counts[places])
            right, difference = of_part == truth, (of_part == truth).astype(float) - (base[part] == truth)
            for key, values, weights in (
                ("top1", right, each),
                ("top1_difference", difference, each),
                ("mean_recall", right, by_class),
                ("mean_recall_difference", difference, by_class),
                ("changed", of_part != base[part], each),
            ):
                spread, of_all = np.zeros((2, len(self.truth)))
                spread[part], of_all[part] = weights, values
                rows.setdefault(key, []).append(subset_values(of_all, spread))
        informative = min(len(part) for part in parts)
        estimates = {
            key: estimate_mean(np.array(of_key), informative=informative, least=-1 if "difference" in key else 0)
            for key, of_key in rows.items()
        }
        images, classes, factor = np.mean(sizes, axis=0).tolist()
        streams = {method.name for method in self.stream_methods}
        return RegimeEffect(name, regime, name in streams, images, classes, factor, **estimates)

    def _parts(self, regime: str) -> list[NDArray[np.int64]]:
        """The images of each draw of a regime."""
        parts = []
        ids = [image.id for image in self.trials.images]
        for draw in range(self.settings.draws):
            purpose = f"{regime} {draw}"
            if regime == "long tail":
                parts.append(long_tail(self.labels, ids, self.settings.imbalance, self.seed, purpose))
            else:
                present = chosen_classes(self.with_images, self.settings.present, self.seed, purpose)
                parts.append(np.flatnonzero(np.isin(self.labels, present)))
        return parts

    def remarks(self, class_order: Sequence[ClassOrderEffect], regimes: Sequence[RegimeEffect]) -> list[str]:
        """What must be said beside the numbers: warnings first."""
        images = counted(len(self.truth), "image", "images")
        remarks = [
            f"warning: {effect.method} looks at each image alone, and {effect.images} of {images} get another label "
            "with another order of the classes: their scores are equal, or differ by less than rounding"
            for effect in class_order
            if effect.images and not effect.stream
        ]
        remarks += [
            f"warning: {effect.method} is no stream method, and its labels depend on the other images ({effect.regime})"
            for effect in regimes
            if effect.changed.value and not effect.stream
        ]
        if len(self.truth) < _FEW_IMAGES:
            remarks.append(f"warning: the intervals hold for many images, and these are {len(self.truth)}")
        if not self.can_hide:
            remarks.append(
                "no classes were hidden: fewer than two candidates, or no image, would be left, and with one "
                "candidate every confidence is 1"
            )
        if not self.parts:
            remarks.append("the images are of one class, so there are no regimes of few classes or a long tail")
        return [*remarks, *self.added.remarks]


@dataclass(frozen=True)
class _AddedClasses:
    """Classes that no image shows.

    Args:
        others: has them; None for none.
        class_ids: those that are none of the candidates.
        counts: how many are added.
        remarks: what must be said of them.
    """

    others: LabelSpace | None = None
    class_ids: Sequence[str] = ()
    counts: Sequence[int] = ()
    remarks: Sequence[str] = ()

    @classmethod
    def of(cls, space: LabelSpace, settings: RobustnessSettings) -> _AddedClasses:
        """Those that may be added to a label space.

        Raises:
            UsageError: none, or fewer than are asked for.
        """
        if settings.added is None:
            return cls(remarks=["no classes were added; --add-labels or --add-bundle names some that no image shows"])
        others = settings.added
        ids = distinct_classes(space, others)
        total = len(others.labels.classes)
        if not ids or max(settings.added_counts, default=1) > len(ids):
            wanted = max(settings.added_counts, default=1)
            raise UsageError(
                f"{wanted} of the {total} classes of {others.source} cannot be added: {len(ids)} of them are no "
                "candidate already",
                remedy="Add classes of another kind, or fewer",
            )
        remarks = []
        if len(ids) < total:
            remarks.append(f"{total - len(ids)} of the {total} classes of {others.source} are candidates and not added")
        described, known = bool(space.descriptions and any(space.descriptions.values())), others.descriptions or {}
        plain = sum(not known.get(class_id) for class_id in ids)
        if described and plain:
            remarks.append(f'{plain} of the added classes have no descriptions: "a photo of a {{class}}." stands in')
        if not described and plain < len(ids):
            remarks.append("the candidates have no descriptions, so those of the added classes are not used")
        return cls(others, ids, sorted(set(settings.added_counts or default_counts(len(ids)))), remarks)

    def space(self, space: LabelSpace, count: int, seed: int, draw: int) -> LabelSpace:
        """A label space with some of them; more of them hold the fewer of the same draw."""
        assert self.others is not None  # or there are no counts
        order = shuffled_order(seed, self.class_ids, f"added classes {draw}")
        return added_space(space, self.others, [self.class_ids[position] for position in order[:count].tolist()])


def _records(sweep: Sweep, stages: Stages) -> list[ResultRecord]:
    """A record for each method, of an evaluation from the same features."""
    results: list[ResultRecord] = []

    def keep(evaluation: Evaluation) -> None:
        results.extend(records_of(evaluation, Run.now()))

    run_sweep(sweep, lambda _: stages, keep, WorkCounts())
    return results


def _details(results: Sequence[ResultRecord]) -> list[str]:
    """What the evaluation says beside its results."""
    details = results[0].details
    return list(dict.fromkeys([*(f"warning: {text}" for text in details.warnings), *details.notes]))
