"""What the change from one version of a bundle to another wins and loses: in all, by class, and by sentence.

Both versions classify the same images with the same views, so every number is paired by image. What a change is worth
alone is found by undoing it alone: the new version is compared with itself but for this change. A change of one class
moves the scores of all classes, so nothing less than scoring all images again says what it does.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.datasets import Dataset, open_dataset
from abs_classify.datasets.base import class_positions
from abs_classify.encoding.feature_store import opened_store
from abs_classify.encoding.stages import ModelSettings, Stages, open_stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.job import Evaluation
from abs_classify.evaluation.metrics import PairedComparison
from abs_classify.evaluation.records import ResultRecord, Run, records_of
from abs_classify.evaluation.sentence_changes import ChangedSentence, changed_sentences, require_same_classes, undone
from abs_classify.evaluation.significance import newcombe_paired
from abs_classify.evaluation.sweep import Sweep, SweepOptions, plan_sweep, run_sweep
from abs_classify.methods.class_texts import (
    ClassTextInputs,
    ClassTexts,
    RandomWords,
    Template,
    TemplateEnsemble,
)
from abs_classify.methods.scoring import StreamScorer
from abs_classify.methods.table import Method, get_method
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import DatasetError, UsageError
from abs_core.progress import Progress, no_progress
from abs_core.result_tables import data_frame, html_table
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.encoding.samples import OnError
    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.images import Truncated
    from abs_classify.models.store import WeightsStore

__all__ = ["BundleComparison", "ClassComparison", "GainCriteria", "SentenceComparison", "compare_bundles"]

# images beyond which no advice asks for more
_MOST_IMAGES = 10_000_000

OLD, NEW = "old", "new"


@dataclass(frozen=True)
class GainCriteria:
    """When a change passes. Without a limit: unless the 95 % interval of its gain lies wholly below 0.

    Attributes:
        min_gain: the interval's lower end must be this many points of top-1 or more.
        max_loss: the interval's lower end must be minus this many points of top-1 or more.

    Raises:
        UsageError: a limit that is no number of points.
    """

    min_gain: float | None = None
    max_loss: float | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("min-gain", self.min_gain, -100), ("max-loss", self.max_loss, 0)):
            if value is not None and not (math.isfinite(value) and least <= value <= 100):
                raise UsageError(
                    f"--{name} must be from {least} to 100 points of top-1, got {value:g}",
                    remedy="Give percentage points: 1 is one image in a hundred",
                )

    @property
    def floor(self) -> float | None:
        """What the interval's lower end must reach, in points of top-1; None without a limit."""
        limits = [self.min_gain, None if self.max_loss is None else -self.max_loss]
        return max((limit for limit in limits if limit is not None), default=None)

    def passes(self, gain: PairedComparison) -> bool:
        """Whether a change with this gain passes."""
        return gain.high >= 0 if self.floor is None else 100 * gain.low >= self.floor


@dataclass(frozen=True)
class ClassComparison:
    """What the change did to one class.

    Attributes:
        class_id, name: the class.
        added, removed, edited: how many of its sentences changed.
        gain: new minus old on the images of this class; None if there are none.
        alone: over all images, what the changes of this class win alone: new minus new with this class as in old. None
            if nothing of it changed, or if that was not asked for.
        lost_to: of its images that are right in old only, the class ids that they get in new and how many each, most
            first.
    """

    class_id: str
    name: str
    added: int
    removed: int
    edited: int
    gain: PairedComparison | None
    alone: PairedComparison | None
    lost_to: tuple[tuple[str, int], ...]

    @property
    def is_changed(self) -> bool:
        """Whether a sentence of it changed."""
        return bool(self.added or self.removed or self.edited)


@dataclass(frozen=True)
class SentenceComparison:
    """What one changed sentence wins alone.

    Attributes:
        change: what was done.
        alone: over all images, new minus new without this change; None if ``is_only`` or if that was not asked for.
        relabelled: images that get another label without this change, whatever is true; None with ``alone``.
        is_only: whether it was added and is its class's only sentence, so that there is no "without it".
    """

    change: ChangedSentence
    alone: PairedComparison | None
    relabelled: int | None
    is_only: bool


# of the data frame and the table of a notebook
_COLUMNS = (
    "class",
    "name",
    "added",
    "removed",
    "edited",
    "images",
    "won",
    "lost",
    "points",
    "low",
    "high",
    "p_value",
)


@dataclass(frozen=True)
class BundleComparison:
    """What the change from one version of a bundle to another wins and loses.

    Attributes:
        old, new: where the classes come from: pinned references.
        criteria: when the change passes.
        results: of old and of new, with model, data set and all that can change the numbers; None if the two have the
            same sentences, so that nothing was tested.
        gain: new minus old over all images; None likewise.
        classes: in the order of new.
        sentences: those that changed, class after class.
        remarks: what must be said beside the numbers.
        work: how many images, views and texts were asked for, and how many of them were computed.
    """

    old: str
    new: str
    criteria: GainCriteria
    results: tuple[ResultRecord, ResultRecord] | None
    gain: PairedComparison | None
    classes: Sequence[ClassComparison]
    sentences: Sequence[SentenceComparison]
    remarks: Sequence[str]
    work: WorkCounts

    @property
    def passed(self) -> bool:
        """Whether the change passes; one that changes no sentence does."""
        return self.gain is None or self.criteria.passes(self.gain)

    @property
    def verdict(self) -> str:
        """A sentence that says whether the change passes, and why."""
        if self.gain is None:
            return "nothing to test: OLD and NEW have the same sentences"
        return ("passed: " if self.passed else "failed: ") + _reason(self.gain, self.criteria)

    def __str__(self) -> str:
        """Tables for a terminal."""
        from abs_classify.evaluation.comparison_summary import summary_text

        return summary_text(self)

    def __repr__(self) -> str:
        return f"<BundleComparison: {self.verdict}>"

    def _repr_html_(self) -> str:
        rows = [
            [f"{value:.4g}" if isinstance(value, float) else value for value in row.values()] for row in self._rows()
        ]
        return html_table(f"{self.old} to {self.new}: {self.verdict}", _COLUMNS, rows)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: a row for each class; gains in points of top-1 on its images, with 95 % intervals.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame(self._rows(), _COLUMNS)

    def _rows(self) -> list[dict[str, Any]]:
        from abs_classify.evaluation.comparison_summary import class_value

        rows = []
        for entry in self.classes:
            value = class_value(entry)
            value |= value["gain"] or {}
            rows.append({name: value.get(name) for name in _COLUMNS})
        return rows

    def to_markdown(self) -> str:
        """A summary for a merge request."""
        from abs_classify.evaluation.comparison_summary import summary_markdown

        return summary_markdown(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: all classes and changed sentences, with all digits."""
        from abs_classify.evaluation.comparison_summary import summary_value

        return summary_value(self)


def _reason(gain: PairedComparison, criteria: GainCriteria) -> str:
    points, low, high = (100 * share for share in (gain.difference, gain.low, gain.high))
    measured = f"the gain is {points:+.1f} points of top-1 [{low:+.1f}, {high:+.1f}]"
    floor = criteria.floor
    if floor is None:
        return f"{measured}, and the 95 % interval {'lies below 0' if high < 0 else 'does not lie below 0'}"
    asked = f"the lower end of the 95 % interval must be {floor:+g} or more"
    if criteria.passes(gain) or high < floor:
        return f"{measured}; {asked}"
    needed = _images_needed(gain, floor)
    advice = "" if needed is None else f": with these shares about {needed:,} would"
    return f"{measured}; {asked}, and {counted(gain.images, 'image', 'images')} cannot show it either way{advice}"


def _images_needed(gain: PairedComparison, floor: float) -> int | None:
    """With how many images the interval of the same shares would reach the floor; None if with no number of them."""
    shares = np.array([gain.both, gain.first_only, gain.second_only, gain.neither]) / gain.images

    def reaches(images: int) -> bool:
        return 100 * newcombe_paired(*(float(share) for share in shares * images))[0] >= floor

    few, many = gain.images, 2 * gain.images
    while not reaches(many):
        few, many = many, 2 * many
        if many > _MOST_IMAGES:
            return None
    while many - few > max(1, few // 50):
        middle = (few + many) // 2
        few, many = (few, middle) if reaches(middle) else (middle, many)
    digits: int = 10 ** max(0, len(str(many)) - 2)
    return digits * math.ceil(many / digits)


def compare_bundles(
    old: LabelSpace,
    new: LabelSpace,
    dataset: str | Dataset,
    *,
    min_gain: float | None = None,
    max_loss: float | None = None,
    method: str | Method = "abs",
    model: str = "embedded",
    views: int | None = None,
    undo: int = 200,
    limit: int | None = None,
    stratified: bool = False,
    seed: int = 0,
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
) -> BundleComparison:
    """Test what a change of descriptions wins and loses on labelled images.

    Args:
        old, new: the two versions, of the same classes.
        dataset: labelled images. They are encoded once for both versions.
        min_gain, max_loss: see ``GainCriteria``.
        method: a row of the table, or its name, that uses descriptions.
        views: how many of each kind, the same for every image; None for the method's own number.
        undo: up to how many changes are undone alone: first all of a class, then single sentences, those of classes to
            or from which most labels changed before others. Each costs a scoring from cached features.
        model, limit, stratified, seed, on_error, truncated, attention, device, dtype: as in ``evaluate``.
        batch_size, runtime, threads, weights, cache, progress: as there.

    Raises:
        UsageError: the two are of different label sets, the method uses no descriptions, or a number is out of range.
        AbsError: what is named cannot be used, or an image cannot be read; see ``evaluate``.
    """
    criteria = GainCriteria(min_gain, max_loss)
    row = _checked_method(method, views, undo)
    require_same_classes(old, new)
    changes = changed_sentences(old, new)
    if not changes:
        return BundleComparison(old.source, new.source, criteria, None, None, (), (), (), WorkCounts())
    options = SweepOptions(
        [row], views, limit=limit, stratified=stratified, seed=seed, on_error=on_error, truncated=truncated
    )
    sweep = _plan_both(old, new, dataset, model, options)
    _set_threads(threads)
    settings = ModelSettings(attention, device, dtype, seed, batch_size, runtime)
    with opened_store(cache) as store:
        evaluator = _Evaluator(sweep, open_stages(store, model, settings, weights), WorkCounts(), progress)
        return _Comparer(*evaluator.evaluations(), changes, evaluator, undo).comparison(criteria)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        from abs_classify.threads import set_threads

        set_threads(threads)


def _plan_both(old: LabelSpace, new: LabelSpace, dataset: str | Dataset, model: str, options: SweepOptions) -> Sweep:
    opened = open_dataset(dataset) if isinstance(dataset, str) else dataset
    try:
        class_positions(opened, new)  # before the sweep, whose errors speak of several bundles
    except DatasetError as error:
        # a slip in a name has a remedy of its own; class names instead of a bundle are none here
        remedy = "Use images of the classes of these bundles" if "--labels" in error.remedy else error.remedy
        raise DatasetError(error.message, remedy=remedy) from error
    return plan_sweep([opened], [model], [old, new], options)


def _checked_method(named: str | Method, views: int | None, undo: int) -> Method:
    method = get_method(named) if isinstance(named, str) else named
    if isinstance(method.texts, Template | TemplateEnsemble | RandomWords) or method.stream:
        raise UsageError(
            f"the method {method.name!r} does not score an image by the sentences of a bundle alone",
            remedy="Use a method that does, such as abs or cupl; see `abs methods`",
        )
    if views is not None and (not isinstance(views, int) or views < 1):
        raise UsageError(
            f"views must be a whole number from 1 on, got {views!r}",
            remedy="Give a number: with adaptive views the two versions would not see the same",
        )
    if undo < 0:
        raise UsageError(f"undo must be 0 or more, got {undo}", remedy="Give 0 to undo no change alone")
    return method


@dataclass(frozen=True)
class _Variant:
    """The new version with other texts of one class."""

    position: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class _Evaluator:
    """Scores the images of a sweep of two label spaces, and of variants of the second one."""

    sweep: Sweep
    stages: Stages
    work: WorkCounts
    progress: Progress

    def evaluations(self) -> tuple[Evaluation, Evaluation]:
        """Of the old version and of the new one."""
        done: list[Evaluation] = []
        run_sweep(self.sweep, lambda _: self.stages, done.append, self.work, progress=self.progress)
        before, after = done
        return before, after

    def labels(self, after: Evaluation, variants: Sequence[_Variant]) -> NDArray[np.int64]:
        """The class position [variants, n] that each image gets with each variant, from the features that are there."""
        import torch

        from abs_classify.methods.replaced_texts import Replacement, replaced_scores
        from abs_classify.methods.sentence_effects import DecisionRule

        (method, class_texts), *_ = after.plan.methods.items()
        assert not isinstance(method.scorer, StreamScorer)  # the caller has checked the method
        stages = dataclasses.replace(self.stages, work=WorkCounts())
        texts = stages.text_features(class_texts)
        replacements = []
        for variant in variants:
            features = stages.text_features(_one_class(class_texts, variant))
            replacements.append(Replacement(torch.tensor([variant.position]), features.features, features.class_index))
        candidates = torch.zeros(texts.classes, dtype=torch.bool)
        candidates[list(after.scored.selected) or slice(None)] = True
        decisions = DecisionRule(candidates)
        labels = torch.from_numpy(after.scored.methods[method.name].top[:, 0].copy())
        shards: list[NDArray[np.int64]] = []
        start = 0
        with self.progress("undoing changes", len(labels), "images") as advance, closing(stages):
            for shard in after.scored.shards:
                views = method.views_by_kind(stages.views(shard, method.views))
                held = labels[start : start + len(shard)]
                scores = islice(replaced_scores(method.scorer, views, texts, replacements), 1, None)
                shards.append(
                    torch.stack([decisions.without(rows, held, decisions.rounding(rows)) for rows in scores]).numpy()
                )
                start += len(shard)
                advance(len(shard))
        self.work.add(stages.work, same_images=True)
        return np.concatenate(shards, axis=1)


def _one_class(texts: ClassTexts, variant: _Variant) -> ClassTexts:
    """The texts of a variant, of its class alone."""
    place = variant.position
    return ClassTexts(
        (texts.class_ids[place],),
        (texts.class_names[place],),
        variant.texts,
        (0,) * len(variant.texts),
        (texts.label_texts[place],),
    )


def _texts_by_class(texts: ClassTexts) -> list[tuple[str, ...]]:
    by_class: list[list[str]] = [[] for _ in texts.class_ids]
    for position, text in zip(texts.class_index, texts.texts, strict=True):
        by_class[position].append(text)
    return [tuple(class_texts) for class_texts in by_class]


class _Comparer:
    """Puts together what two evaluations and the variants of the second one say."""

    def __init__(
        self,
        before: Evaluation,
        after: Evaluation,
        changes: Sequence[ChangedSentence],
        evaluator: _Evaluator,
        undo: int,
    ) -> None:
        self._before, self._after, self._changes = before, after, changes
        self._evaluator, self._undo = evaluator, undo
        self._method = next(iter(after.plan.methods))
        old_texts = next(iter(before.plan.methods.values()))
        self._old_texts = dict(zip(old_texts.class_ids, _texts_by_class(old_texts), strict=True))
        # positions of the new version; the old one may have its classes in another order
        ids = list(after.label_space.names)
        place = {class_id: position for position, class_id in enumerate(ids)}
        self._place = place
        moved = np.array([place[class_id] for class_id in before.label_space.names])
        name = self._method.name
        self._truth = np.asarray(after.scored.labels, dtype=np.int64)
        self._old_labels = moved[before.scored.methods[name].top[:, 0]]
        self._new_labels = after.scored.methods[name].top[:, 0]

    def comparison(self, criteria: GainCriteria) -> BundleComparison:
        """All of it."""
        by_class: dict[str, list[ChangedSentence]] = {}
        for change in self._changes:
            by_class.setdefault(change.class_id, []).append(change)
        keys = self._undoable(by_class)
        chosen = keys[: self._undo]
        known = dict(zip(chosen, self._labels([self._variant(*key) for key in chosen]), strict=True))
        run = Run.now()
        results = records_of(self._before, run)[0], records_of(self._after, run)[0]
        left_out = len(keys) - len(chosen)
        return BundleComparison(
            self._before.label_space.source,
            self._after.label_space.source,
            criteria,
            results,
            self._paired(self._old_labels),
            [self._class(class_id, by_class.get(class_id, ()), known) for class_id in self._place],
            [self._sentence(number, change, by_class, known) for number, change in enumerate(self._changes)],
            self._remarks(results, left_out),
            self._evaluator.work,
        )

    def _undoable(self, by_class: Mapping[str, Sequence[ChangedSentence]]) -> list[tuple[str, int]]:
        """What can be undone: (class id, -1) for all changes of a class, then (class id, n) for change n alone.

        The classes to and from which most labels changed come first.
        """
        moved = self._old_labels != self._new_labels
        labels = np.concatenate([self._old_labels[moved], self._new_labels[moved]])
        counts = np.bincount(labels, minlength=len(self._place))
        classes = sorted(by_class, key=lambda class_id: -int(counts[self._place[class_id]]))
        keys = [(class_id, -1) for class_id in classes]
        if self._before.label_space.descriptions is None or self._after.label_space.descriptions is None:
            return keys
        numbers: dict[str, list[int]] = {class_id: [] for class_id in classes}
        for number, change in enumerate(self._changes):
            if len(by_class[change.class_id]) > 1 and not self._is_only(change):
                numbers[change.class_id].append(number)
        return keys + [(class_id, number) for class_id in classes for number in numbers[class_id]]

    def _is_only(self, change: ChangedSentence) -> bool:
        """Whether a sentence was added and is its class's only one, so that there is no "without it"."""
        return change.kind == "added" and len(self._new_descriptions(change.class_id)) == 1

    def _new_descriptions(self, class_id: str) -> Sequence[Description]:
        return (self._after.label_space.descriptions or {}).get(class_id, ())

    def _variant(self, class_id: str, number: int) -> _Variant:
        """The new version without what ``_undoable`` names."""
        if number < 0:
            texts = self._old_texts[class_id]
        else:
            kept = undone([self._changes[number]], self._new_descriptions(class_id))
            inputs = ClassTextInputs({class_id: self._after.label_space.names[class_id]}, {class_id: kept})
            texts = self._method.texts.build(inputs).texts
        return _Variant(self._place[class_id], texts)

    def _labels(self, variants: Sequence[_Variant]) -> list[NDArray[np.int64]]:
        """The labels of each variant; one that is the old version needs no scoring."""
        # where one class changed, undoing all of it, which comes first, is the old version
        single = len({change.class_id for change in self._changes}) == 1
        known = [self._old_labels] if single and variants else []
        further = variants[len(known) :]
        return [*known, *(self._evaluator.labels(self._after, further) if further else ())]

    def _paired(self, labels: NDArray[np.int64], chosen: NDArray[np.bool_] | None = None) -> PairedComparison:
        """The new version minus what gives ``labels``, on all images or the chosen ones."""
        new, other = self._new_labels == self._truth, labels == self._truth
        if chosen is not None:
            new, other = new[chosen], other[chosen]
        return PairedComparison.of_images(NEW, new, OLD, other)

    def _class(
        self,
        class_id: str,
        changes: Sequence[ChangedSentence],
        known: Mapping[tuple[str, int], NDArray[np.int64]],
    ) -> ClassComparison:
        chosen = self._truth == self._place[class_id]
        lost = chosen & (self._old_labels == self._truth) & (self._new_labels != self._truth)
        ids = list(self._place)
        counts = Counter(change.kind for change in changes)
        labels = known.get((class_id, -1))
        return ClassComparison(
            class_id,
            self._after.label_space.names[class_id],
            counts["added"],
            counts["removed"],
            counts["edited"],
            self._paired(self._old_labels, chosen) if chosen.any() else None,
            None if labels is None else self._paired(labels),
            tuple((ids[place], n) for place, n in Counter(self._new_labels[lost].tolist()).most_common()),
        )

    def _sentence(
        self,
        number: int,
        change: ChangedSentence,
        by_class: Mapping[str, Sequence[ChangedSentence]],
        known: Mapping[tuple[str, int], NDArray[np.int64]],
    ) -> SentenceComparison:
        is_single = len(by_class[change.class_id]) == 1
        labels = known.get((change.class_id, -1 if is_single else number))
        is_only = self._is_only(change)
        return SentenceComparison(
            change,
            None if labels is None or is_only else self._paired(labels),
            None if labels is None or is_only else int((labels != self._new_labels).sum()),
            is_only,
        )

    def _remarks(self, results: tuple[ResultRecord, ResultRecord], left_out: int) -> list[str]:
        details = [record.details for record in results]
        remarks = [f"warning: {text}" for facts in details for text in facts.warnings]
        remarks += [text for facts in details for text in facts.notes]
        if left_out and self._undo:
            remarks.append(
                f"{counted(left_out, 'change was', 'changes were')} not undone alone, beyond the {self._undo} that "
                "were; --single-changes sets how many"
            )
        return list(dict.fromkeys(remarks))
