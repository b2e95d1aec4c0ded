"""An evaluation: methods planned, the images of a data set scored, every draw of the views beside the first."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.ranking import OnError, ScoredImages, SkippedImage, identify, score
from abs_classify.encoding.stages import IdentifiedSample, Stages
from abs_classify.methods.plan import MethodPlan
from abs_classify.models.deferred import model_notes
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError
from abs_core.progress import Advance
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset, Sample
    from abs_classify.evaluation.metrics import EvaluationResult, Spread
    from abs_classify.evaluation.published import Baseline

__all__ = ["Evaluation", "EvaluationJob", "EvaluationSplit", "evaluate", "reseeded"]


@dataclass
class EvaluationSplit:
    """The images of a data set that are evaluated: identified once, whatever the number of models and bundles.

    Args:
        dataset: with all of its images.
        items: those that count, in order.
        sample: how they were chosen; empty for all of them.
        bad: photos that could not be decoded, found by any model.
    """

    dataset: Dataset
    items: Sequence[Sample]
    sample: str = ""
    bad: dict[IdentifiedSample, SkippedImage] = field(default_factory=dict)
    seconds: float = 0.0
    _identified: tuple[list[IdentifiedSample | None], list[SkippedImage]] | None = None

    def identify(self, memo: DigestCache, on_error: OnError) -> tuple[list[IdentifiedSample], list[SkippedImage]]:
        """The photos whose bytes could be read, and the others.

        Raises:
            ImageError: an image cannot be read and ``on_error`` is "stop".
        """
        if self._identified is None:
            start = time.perf_counter()
            self._identified = identify(self.items, memo, on_error)
            self.seconds = time.perf_counter() - start
        photos, skipped = self._identified
        return [photo for photo in photos if photo is not None], skipped

    @property
    def whole(self) -> bool:
        """Whether these are all images of a published split, so that published numbers are of the same ones."""
        from abs_classify.datasets import BENCHMARKS

        known = {one.name: one for one in BENCHMARKS}.get(self.dataset.benchmark)
        sizes = {split.name: split.images for split in known.splits} if known else {}
        return len(self.items) == sizes.get(self.dataset.split, -1) and not self.sample

    def notes(self, photos: Sequence[IdentifiedSample], names: Mapping[str, str]) -> list[str]:
        """What must be said of the images: how they were chosen, classes of the vocabulary without any, copies."""
        from abs_core.labels import fold

        dataset = self.dataset
        notes = [*dataset.notes, *([self.sample] if self.sample else [])]
        used, folded = {photo.item.label for photo in photos}, set(map(fold, names.values()))
        left = [one for one in dataset.classes if one.id not in used and one.id in (dataset.selected or [one.id])]
        empty = [one.id for one in left if one.id in names or {fold(one.id), fold(one.name)} & folded]
        if empty:
            notes.append(
                f"{counted(len(empty), 'class has', 'classes have')} no image here, such as {empty[0]!r}: they "
                "compete, and the mean recall is over the others"
            )
        return notes + _copies(photos)


@dataclass(frozen=True)
class EvaluationJob:
    """One combination of the grid, planned: it can run, if its images and model can be read.

    Args:
        subject: the images.
        bundle: the bundle as the user named it, or None.
        vocabulary: classes and descriptions.
        positions: label of the data set to position of its class.
        plans: one for each seed; those after the first hold only methods that draw something.
    """

    subject: EvaluationSplit
    bundle: str | None
    vocabulary: LabelSpace
    positions: Mapping[str, int]
    plans: Sequence[MethodPlan]

    @property
    def passes(self) -> int:
        """How often the images are gone through."""
        return sum(1 for plan in self.plans if plan.methods)


@dataclass
class Evaluation:
    """What was found for one data set, one model and one bundle.

    Args:
        cell: what was planned.
        model: as the user named it.
        stages: with the features of the first seed in the cache.
        scored: the rankings of the first seed.
        results: of the first seed, one for each method.
        redraws: the results of each further seed, only of methods that draw something.
        seconds: wall time.
        stage_seconds: wall time by what it went into.
    """

    cell: EvaluationJob
    model: str
    stages: Stages
    scored: ScoredImages
    results: Sequence[EvaluationResult]
    redraws: Sequence[Sequence[EvaluationResult]]
    seconds: float
    stage_seconds: Mapping[str, float]

    @property
    def plan(self) -> MethodPlan:
        """The plan of the first seed."""
        return self.cell.plans[0]

    @property
    def vocabulary(self) -> LabelSpace:
        """The classes that an image could get."""
        return self.cell.vocabulary

    def spread(self, method: str) -> Spread:
        """Top-1 accuracies of a method over the seeds; one value where it draws nothing."""
        from abs_classify.evaluation.metrics import Spread

        every = [self.results, *self.redraws]
        return Spread(tuple(one.top1.value for results in every for one in results if one.method == method))

    def baselines(self) -> list[Baseline]:
        """Published numbers of plain CLIP beside the measured ones, where they are of the same images and model."""
        from abs_classify.evaluation.published import SINGLE, Baseline, find_published

        dataset = self.cell.subject.dataset
        if not self.cell.subject.whole or self.scored.skipped or not _published_candidates(dataset, self.vocabulary):
            return []
        templates = {"clip": SINGLE, "clip-e": self.plan.templates}
        return [
            Baseline.of(result, published)
            for result in self.results
            if result.method in templates
            for published in find_published(dataset.benchmark, dataset.split, self.model, templates[result.method])
        ]

    def warnings(self) -> list[str]:
        """What the reader must not miss."""
        alarmed: dict[str, list[str]] = {}
        for result in self.results:
            if result.alarm:
                alarmed.setdefault(result.alarm, []).append(result.method)
        alarms = [f"{', '.join(methods)}: {alarm}" for alarm, methods in alarmed.items()]
        off = [one.text for one in self.baselines() if one.off]
        skipped = [f"skipped {one.name}: {one.reason}" for one in self.scored.skipped]
        return alarms + off + skipped

    def notes(self) -> list[str]:
        """What the reader should know."""
        sound = [one.text for one in self.baselines() if not one.off]
        subject = self.cell.subject.notes(self.scored.photos, self.vocabulary.names)
        return [*subject, *self._foreign(), *self.plan.notes, *sound, *model_notes(self.model)]

    def _foreign(self) -> list[str]:
        """A note on classes of the vocabulary that the data set does not know."""
        from abs_core.labels import fold

        used = set(self.cell.positions.values())
        classes = self.cell.subject.dataset.classes
        known = {one.id for one in classes} | {fold(one.name) for one in classes}
        rows = enumerate(self.vocabulary.names.items())
        extra = [one for at, (one, name) in rows if at not in used and not {one, fold(name)} & known]
        if not extra:
            return []
        some = counted(len(extra), "class", "classes")
        return [
            f"the data set lacks {some} of {self.vocabulary.source}, such as {extra[0]!r}; they compete all the same"
        ]


def reseeded(plans: Sequence[MethodPlan]) -> list[MethodPlan]:
    """The plans of all seeds, those after the first without the methods that draw nothing: neither views nor texts.

    A method that draws stays in every plan, also where a seed happens to draw the same texts as the first.
    """
    texts: dict[str, set[str]] = {}
    for plan in plans:
        for method, table in plan.methods.items():
            texts.setdefault(method.name, set()).add(table.digest)
    draws = {
        method.name
        for method in plans[0].methods
        if len(texts[method.name]) > 1 or any(view.kind != "whole" for view in method.views)
    }

    def drawing(plan: MethodPlan) -> MethodPlan:
        kept = {method: table for method, table in plan.methods.items() if method.name in draws}
        return dataclasses.replace(plan, methods=kept)

    return [plans[0], *map(drawing, plans[1:])]


def evaluate(
    cell: EvaluationJob,
    model: str,
    stages: Stages,
    on_error: OnError,
    advance: Advance,
    passed: Callable[[EvaluationJob, str, int, ScoredImages], None] | None = None,
) -> Evaluation:
    """Score the images of a cell with every seed.

    Args:
        cell: what was planned.
        model: as the user named it.
        stages: of that model, with the first seed.
        on_error: whether an image that cannot be read stops the run.
        advance: is told of each finished shard.
        passed: is given the rankings of each seed: cell, model, seed, rankings.

    Raises:
        DatasetError: no image could be used.
        ImageError: an image cannot be read and ``on_error`` is "stop"; finished shards stay in the cache.
    """
    start, before = time.perf_counter(), {**stages.seconds, "identify": cell.subject.seconds}
    first: tuple[ScoredImages, list[EvaluationResult]] | None = None
    redraws = []
    for plan in cell.plans:
        if not plan.methods:
            continue
        seeded = dataclasses.replace(stages, seed=plan.seed)
        found = _score_once(cell, plan, seeded, on_error, advance)
        if passed is not None:
            passed(cell, model, plan.seed, found[0])
        if first is None:
            first = found
        else:
            redraws.append(found[1])
    assert first is not None  # the first plan has methods
    after = {"identify": cell.subject.seconds, **stages.seconds}
    spent = {name: total - before.get(name, 0.0) for name, total in after.items()}
    seconds = time.perf_counter() - start
    return Evaluation(cell, model, stages, *first, redraws, seconds, spent)


def _score_once(
    cell: EvaluationJob, plan: MethodPlan, stages: Stages, on_error: OnError, advance: Advance
) -> tuple[ScoredImages, list[EvaluationResult]]:
    import numpy as np

    from abs_classify.evaluation.metrics import evaluate_ranks

    dataset, names = cell.subject.dataset, cell.vocabulary.names
    photos, unreadable = cell.subject.identify(stages.models.memo, on_error)
    labels = [cell.positions[photo.item.label] for photo in photos]
    places = {one: at for at, one in enumerate(names)} | dict(cell.positions)
    selected = [places[one] for one in dataset.selected if one in places]
    scored = score(stages, photos, labels, plan.methods, on_error, advance, selected, cell.subject.bad)
    scored.skipped[:0] = unreadable
    if not scored.photos:
        raise DatasetError(f"no image of {dataset.name} could be used", remedy="See the reasons with --on-error stop")
    truth = np.asarray(scored.labels, dtype=np.int64)
    winnable = len(selected) or len(names)
    return scored, [evaluate_ranks(name, found.ranks, truth, winnable) for name, found in scored.methods.items()]


def _published_candidates(dataset: Dataset, vocabulary: LabelSpace) -> bool:
    """Whether as many classes compete as in the published runs: all of the data set, its own where it has a part."""
    from abs_classify.datasets import BENCHMARKS
    from abs_core.labels import shipped_label_set

    known = {one.name: one for one in BENCHMARKS}[dataset.benchmark]
    own = len(shipped_label_set(known.labels).classes)
    return own in (len(vocabulary.names), len(dataset.selected))


def _copies(photos: Sequence[IdentifiedSample]) -> list[str]:
    """Notes on images with the same bytes."""
    counts = Counter(photo.id for photo in photos)
    labels: dict[str, dict[str, IdentifiedSample]] = {}
    for photo in photos:
        if counts[photo.id] > 1:
            labels.setdefault(photo.id, {}).setdefault(photo.item.label, photo)
    if not labels:
        return []
    extra = sum(counts[one] - 1 for one in labels)
    notes = [f"{counted(extra, 'image is a copy', 'images are copies')} of another, byte for byte; each counts"]
    torn = next((own for own in labels.values() if len(own) > 1), None)
    if torn is not None:
        some = " and ".join(f"{photo.name!r} is {label!r}" for label, photo in list(torn.items())[:2])
        notes.append(f"copies of one image have different labels, so one of them is always wrong: {some}")
    return notes
