"""A job: a split of a data set, classified by every method with one model and each seed."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from abs_classify.datasets import Dataset, Sample, open_dataset
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.ranking import ScoredImages, ShardScorer, image_remarks, rank_images
from abs_classify.encoding.samples import IdentifiedSample, OnError, SkippedImage, UnreadableSample, identify_readable
from abs_classify.encoding.stages import Stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.budgets import find_budget, spend_budget
from abs_classify.evaluation.engine_pass import encode_split
from abs_classify.evaluation.image_notes import ImageSizes, absent_classes_notes, copies_notes
from abs_classify.evaluation.metrics import MethodResult, SeedSpread, evaluate_ranks
from abs_classify.evaluation.published import (
    BaselineCheck,
    GuardedRun,
    PublishedComparison,
    compare_published,
    is_whole_split,
)
from abs_classify.evaluation.stratification import stratified_positions
from abs_classify.methods.table import MethodPlan
from abs_classify.plugins import plugin_notes
from abs_classify.sharding import ShardSpec, SourceDigest, SourceShare
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError
from abs_core.labels import fold
from abs_core.progress import Advance
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.engines.base import Engine
    from abs_classify.images import Truncated
    from abs_classify.methods.table import Method
    from abs_classify.methods.view_budget import ViewBudget
    from abs_classify.methods.views import ViewSource

__all__ = [
    "Evaluation",
    "EvaluationJob",
    "EvaluationSplit",
    "RankedPass",
    "open_split",
    "reseeded",
    "result_warnings",
    "run_job",
]


@dataclass
class EvaluationSplit:
    """The images of a data set that are evaluated: identified once, whatever the number of models and label spaces.

    Args:
        dataset: with all of its images.
        samples: those that count, in order.
        sampling: how they were chosen; empty for all of them.
        truncated: what is done with files that end early.
        share: of the images that were chosen, if the samples are not all of them.
        bad: images that could not be decoded, found by any model.
        seconds: wall time of reading and identifying the images.
        failed: images that must not be read, found by an engine.
    """

    dataset: Dataset
    samples: Sequence[Sample]
    sampling: str = ""
    truncated: Truncated = "refuse"
    share: SourceShare | None = None
    bad: dict[IdentifiedSample | UnreadableSample, SkippedImage] = field(default_factory=dict)
    seconds: float = 0.0
    failed: dict[Sample, SkippedImage] = field(default_factory=dict)
    _identified: tuple[list[IdentifiedSample], list[SkippedImage]] | None = None

    def identify(
        self, digests: DigestCache, on_error: OnError, advance: Advance | None = None
    ) -> tuple[list[IdentifiedSample], list[SkippedImage]]:
        """The images whose bytes could be read, and the others.

        Args:
            digests: remembers the ids of images.
            on_error: whether an image that cannot be read ends the run.
            advance: is told how far reading is, since nothing is classified meanwhile.

        Raises:
            ImageError: an image cannot be read and ``on_error`` is "stop".
        """
        if self._identified is None:
            start = time.perf_counter()

            def told(done: int) -> None:
                if advance is not None:
                    advance(0, f"read {done} of {len(self.samples)} images")

            samples = [sample for sample in self.samples if sample not in self.failed] if self.failed else self.samples
            readable, skipped = identify_readable(samples, digests, on_error, told, truncated=self.truncated)
            self._identified = readable, [*skipped, *self.failed.values()]
            self.seconds = time.perf_counter() - start
        return self._identified

    @property
    def unreadable(self) -> Sequence[SkippedImage]:
        """The images whose bytes could not be read, once they are identified."""
        return [] if self._identified is None else self._identified[1]

    @property
    def whole(self) -> bool:
        """Whether these are all images of a published split, so that published numbers are of the same ones."""
        dataset = self.dataset
        return self.share is None and is_whole_split(dataset.benchmark, dataset.split, len(self.samples), self.sampling)

    @property
    def fixed_notes(self) -> list[str]:
        """What must be said of the data set and of how the images were chosen, whichever share of them is looked at."""
        return [*self.dataset.notes, *([self.sampling] if self.sampling else [])]

    def competing(self, names: Mapping[str, str]) -> list[str]:
        """The ids of the classes of the data set that an image can get, with images or without.

        Args:
            names: of the candidate classes, by id.
        """
        dataset, folded = self.dataset, set(map(fold, names.values()))
        return [
            entry.id
            for entry in dataset.classes
            if entry.id in (dataset.selected or [entry.id])
            and (entry.id in names or {fold(entry.id), fold(entry.name)} & folded)
        ]

    def notes(self, images: Sequence[IdentifiedSample], names: Mapping[str, str]) -> list[str]:
        """What must be said of the images: how they were chosen, candidate classes without any, copies."""
        used = {image.sample.label for image in images}
        known = [(image.id, image.sample.label, image.name) for image in images]
        return [*self.fixed_notes, *absent_classes_notes(self.competing(names), used), *copies_notes(known)]


def open_split(
    dataset: str | Dataset,
    limit: int | None,
    *,
    stratified: bool,
    seed: int,
    truncated: Truncated = "refuse",
    shard: ShardSpec | None = None,
) -> EvaluationSplit:
    """The images of a data set that are evaluated.

    Args:
        dataset: a data set, or its spec.
        limit: how many images; None for all.
        stratified: whether they are drawn from every class, instead of the first.
        seed: of a stratified sample.
        truncated: what is done with files that end early, see ``load_image``.
        shard: which share of the images is taken; None for all.

    Raises:
        UnknownNameError, UsageError, DatasetError: the data set cannot be used, has no images, or more classes than
            ``limit`` where each needs an image.
    """
    if isinstance(dataset, str):
        dataset = open_dataset(dataset)
    if not dataset.samples:
        raise DatasetError(f"the data set {dataset.name} has no images", remedy="Check its folder")
    samples, sampling = _chosen_samples(dataset, limit, stratified=stratified, seed=seed)
    share = None
    if shard is not None:
        source = SourceDigest()
        for sample in samples:
            source.add(sample.name, sample.label)
        positions = shard.positions(source.images)
        samples, share = samples[positions.start : positions.stop], shard.share(source.images, source.value)
    return EvaluationSplit(dataset, samples, sampling, truncated, share)


def _chosen_samples(
    dataset: Dataset, limit: int | None, *, stratified: bool, seed: int
) -> tuple[Sequence[Sample], str]:
    """The samples, and how they were chosen; empty for all of them."""
    if limit is None or limit >= len(dataset.samples):
        return dataset.samples, ""
    if stratified:
        return _stratified_sample(dataset, limit, seed)
    classes = len(set(islice(dataset.labels, limit)))
    of_classes = f", of {counted(classes, 'class', 'classes')}" if len(dataset.classes) > 1 else ""
    return dataset.samples[:limit], f"the first {limit} of {len(dataset.samples)} images{of_classes}: no random sample"


def _stratified_sample(dataset: Dataset, limit: int, seed: int) -> tuple[list[Sample], str]:
    """The samples, and how they were drawn."""
    samples = [dataset.samples[position] for position in stratified_positions(list(dataset.labels), limit, seed)]
    counts = Counter(sample.label for sample in samples).values()
    least, most = min(counts), max(counts)
    per_class = f"{least} to {most}" if least < most else str(least)
    size = f"{limit} of {len(dataset.samples)} images"
    return samples, f"a stratified sample of {size}, {per_class} of each class, seed {seed}"


@dataclass(frozen=True)
class EvaluationJob:
    """A data set and a label space, planned for every model: it can run, if its images and the model can be read.

    Args:
        split: the images.
        label_space: classes and descriptions.
        positions: label of the data set to position of its class.
        plans: one for each seed; those after the first hold only methods that draw something.
    """

    split: EvaluationSplit
    label_space: LabelSpace
    positions: Mapping[str, int]
    plans: Sequence[MethodPlan]

    @property
    def passes(self) -> int:
        """How often the images are gone through."""
        return sum(1 for plan in self.plans if plan.methods)


@dataclass(frozen=True)
class RankedPass:
    """The rankings of one seed.

    Args:
        job: the images and classes.
        model: its name, without the path of its files.
        seed: of the views and texts.
        scored: the rankings.
    """

    job: EvaluationJob
    model: str
    seed: int
    scored: ScoredImages


@dataclass
class Evaluation:
    """A job that was run with one model.

    Args:
        job: what was planned.
        model: its name, without the path of its files.
        stages: with the features of the first seed in the store.
        scored: the rankings of the first seed.
        results: of the first seed, one for each method.
        redraws: the results of each further seed, only of methods that draw something.
        seconds: wall time.
        stage_seconds: wall time by what it went into.
        budget: how many views the images shared; None where each got its own number.
    """

    job: EvaluationJob
    model: str
    stages: Stages
    scored: ScoredImages
    results: Sequence[MethodResult]
    redraws: Sequence[Sequence[MethodResult]]
    seconds: float
    stage_seconds: Mapping[str, float]
    budget: ViewBudget | None = None

    @property
    def plan(self) -> MethodPlan:
        """The plan of the first seed."""
        return self.job.plans[0]

    @property
    def label_space(self) -> LabelSpace:
        """The classes that an image could get."""
        return self.job.label_space

    def adaptive_views(self, method: Method) -> tuple[ViewSource, ...]:
        """The view sources that a method took in rounds; none where it looked at all of its views."""
        if self.plan.adaptive is None:
            return ()
        return method.adaptive_views(cheap_windows=self.stages.models.facts.cheap_windows)

    def spread(self, method: str) -> SeedSpread:
        """Top-1 accuracies of a method over the seeds; one value where it draws nothing."""
        by_seed = [self.results, *self.redraws]
        accuracies = [result.top1.value for results in by_seed for result in results if result.method == method]
        return SeedSpread.of(accuracies, self.plan.seed)

    def baselines(self) -> list[BaselineCheck]:
        """Published numbers beside the measured ones, where images, model, class names and texts are the same."""
        return [check for check, _ in self._published.checks]

    def warnings(self) -> list[str]:
        """What the reader must not miss."""
        return result_warnings(self.results, self._published, self.scored.skipped)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was left out or guessed when the images were listed, and guessed or scaled when they were decoded."""
        counter = RemarkCounter(self.job.split.dataset.remarks)
        counter.extend(image_remarks(self.scored.images, self.scored.facts))
        return counter.remarks

    def notes(self) -> list[str]:
        """What the reader should know."""
        near = [check.text(result.top1) for check, result in self._published.checks if not check.off]
        return [*self.data_notes, *near, *self._published.notes, *self.run_notes]

    @property
    def data_notes(self) -> list[str]:
        """What must be said of the images, classes, methods and views."""
        split = self.job.split
        return [
            *([split.share.note] if split.share is not None else []),
            *map(str, self.remarks),
            *split.notes(self.scored.images, self.label_space.names),
            *self.image_sizes.notes(),
            *self.plan_notes,
        ]

    @property
    def plan_notes(self) -> list[str]:
        """What must be said of classes, methods and views, whichever share of the images is looked at."""
        return [
            *map(str, self.label_space.labels.remarks),
            *self._classes_without_data(),
            *self.plan.notes,
            *self._fixed_views(),
            *self._shared_views(),
        ]

    @property
    def run_notes(self) -> list[str]:
        """What must be said of the model and of plugins, as they were in this process."""
        return [*self.stages.models.notes, *plugin_notes()]

    def _fixed_views(self) -> list[str]:
        """A note on methods of an adaptive run that looked at all of their views."""
        sampling = [method for method in self.plan.methods if any(view.kind != "whole" for view in method.views)]
        fixed = [method.name for method in sampling if self.plan.adaptive and not self.adaptive_views(method)]
        return [f"{', '.join(fixed)}: looked at all views, as the score is no sum over crops"] if fixed else []

    def _shared_views(self) -> list[str]:
        """A note on methods whose labels depend on the other images."""
        if self.budget is None:
            return []
        sharing = ", ".join(method.name for method in self.plan.methods if self.adaptive_views(method))
        seconds = "" if self.budget.seconds is None else f", what fits {self.budget.seconds:g} s as measured"
        return [
            f"{sharing}: labels depend on the other images, which share a budget of {self.budget.views:g} views an "
            f"image{seconds}"
        ]

    @property
    def image_sizes(self) -> ImageSizes:
        """How many images have fewer pixels than the model's input."""
        cropping = [
            method.name for method in self.plan.methods if {"box", "random"} & {view.kind for view in method.views}
        ]
        if not cropping or not self.scored.facts:
            return ImageSizes(len(self.scored.facts), 0, 0, 0, ())
        facts = self.stages.models.facts
        sizes = [(image.width, image.height) for image in self.scored.facts]
        tiny = sum(map(facts.geometry.is_tiny, sizes))
        small = sum(min(size) < facts.input_size for size in sizes) - tiny
        return ImageSizes(len(sizes), tiny, small, facts.input_size, tuple(cropping))

    @property
    def guarded(self) -> GuardedRun:
        """What published numbers must agree with."""
        split, names = self.job.split, self.label_space.names
        every = list(names.values())
        return GuardedRun(
            benchmark=split.dataset.benchmark,
            split=split.dataset.split,
            whole=split.whole and not self.scored.skipped,
            model=self.model,
            names=names,
            candidates=[every[position] for position in self.scored.selected] or every,
            texts={method.name: texts.digest for method, texts in self.plan.methods.items()},
        )

    @cached_property
    def _published(self) -> PublishedComparison:
        return compare_published(self.guarded, self.results)

    def _classes_without_data(self) -> list[str]:
        """A note on classes of the label space that the data set does not know."""
        used = set(self.job.positions.values())
        classes = self.job.split.dataset.classes
        known = {entry.id for entry in classes} | {fold(entry.name) for entry in classes}
        candidates = enumerate(self.label_space.names.items())
        extra = [
            class_id
            for position, (class_id, name) in candidates
            if position not in used and not {class_id, fold(name)} & known
        ]
        if not extra:
            return []
        count, source = counted(len(extra), "class", "classes"), self.label_space.source
        return [f"the data set lacks {count} of {source}, such as {extra[0]!r}; they compete all the same"]


def result_warnings(
    results: Sequence[MethodResult], published: PublishedComparison, skipped: Sequence[SkippedImage]
) -> list[str]:
    """What the reader of results must not miss.

    Args:
        results: of the first seed, one for each method.
        published: their comparison with what others report.
        skipped: the images that were left out.
    """
    methods_by_alarm: dict[str, list[str]] = {}
    for result in results:
        if result.alarm:
            methods_by_alarm.setdefault(result.alarm, []).append(result.method)
    alarms = [f"{', '.join(methods)}: {alarm}" for alarm, methods in methods_by_alarm.items()]
    off = [check.text(result.top1) for check, result in published.checks if check.off]
    return [*alarms, *off, *(f"skipped {image.name}: {image.reason}" for image in skipped)]


def reseeded(plans: Sequence[MethodPlan]) -> list[MethodPlan]:
    """The plans of all seeds, those after the first without the methods that draw nothing: views, texts or order.

    A method that draws stays in every plan, also where a seed happens to draw the same texts as the first.
    """
    texts: dict[str, set[str]] = {}
    for plan in plans:
        for method, class_texts in plan.methods.items():
            texts.setdefault(method.name, set()).add(class_texts.digest)
    draws = {method.name for method in plans[0].methods if len(texts[method.name]) > 1 or plans[0].draws(method)}

    def drawing(plan: MethodPlan) -> MethodPlan:
        kept = {method: texts for method, texts in plan.methods.items() if method.name in draws}
        return dataclasses.replace(plan, methods=kept)

    return [plans[0], *map(drawing, plans[1:])]


def run_job(
    job: EvaluationJob,
    model: str,
    stages: Stages,
    on_error: OnError,
    advance: Advance,
    work: WorkCounts,
    ranked: Callable[[RankedPass], None] | None = None,
    engine: Engine | None = None,
) -> Evaluation:
    """Score the images of a job with every seed.

    Args:
        job: what was planned.
        model: its name, without the path of its files.
        stages: of that model, with the first seed.
        on_error: whether an image that cannot be read stops the run.
        advance: is called for each finished shard.
        work: what each seed asked for and computed is added, also where the run stops.
        ranked: is given the rankings of each seed.
        engine: has features computed elsewhere; None computes them here.

    Raises:
        DatasetError: no image could be used.
        ImageError: an image cannot be read and ``on_error`` is "stop"; what was computed is kept.
    """
    start, before = time.perf_counter(), {**stages.seconds, "identify": job.split.seconds}
    budget: ViewBudget | None = None
    first: ScoredImages | None = None
    results: list[list[MethodResult]] = []
    for plan in job.plans:
        if not plan.methods:
            continue
        pass_stages = dataclasses.replace(stages, seed=plan.seed, work=WorkCounts())
        try:
            if engine is not None:
                encode_split(job.split, engine, pass_stages, plan, on_error, advance)
            scorer, images, unreadable = _begin_pass(job, plan, pass_stages, on_error, advance)
            if budget is None and plan.adaptive is not None and plan.adaptive.has_budget:
                budget = find_budget(plan.adaptive, scorer, images, job.passes, start)
            scored = _run_pass(job, scorer, images, budget, advance)
            scored.skipped[:0] = unreadable
            pass_results = _results(job, plan, scored)
        finally:
            work.add(pass_stages.work, same_images=True)
        if ranked is not None:
            ranked(RankedPass(job, model, plan.seed, scored))
        first = scored if first is None else first
        results.append(pass_results)
    assert first is not None  # the first plan has methods
    after = {"identify": job.split.seconds, **stages.seconds}
    stage_seconds = {name: total - before.get(name, 0.0) for name, total in after.items()}
    seconds = time.perf_counter() - start
    return Evaluation(job, model, stages, first, results[0], results[1:], seconds, stage_seconds, budget)


def _begin_pass(
    job: EvaluationJob, plan: MethodPlan, stages: Stages, on_error: OnError, advance: Advance
) -> tuple[ShardScorer, list[IdentifiedSample], list[SkippedImage]]:
    """What scores the images of a pass, those whose bytes could be read, and the others."""
    images, unreadable = job.split.identify(stages.models.digests, on_error, advance)
    stages.announce(images, [view for method in plan.methods for view in method.views])
    scorer = ShardScorer(
        stages,
        plan.methods,
        on_error,
        skipped=job.split.bad,
        adaptive=plan.adaptive,
        stream_seed=plan.seed if plan.stream_order == "shuffled" else None,
    )
    return scorer, images, unreadable


def _run_pass(
    job: EvaluationJob,
    scorer: ShardScorer,
    images: Sequence[IdentifiedSample],
    budget: ViewBudget | None,
    advance: Advance,
) -> ScoredImages:
    """The rankings of a pass."""
    dataset, names = job.split.dataset, job.label_space.names
    labels = [job.positions[image.sample.label] for image in images]
    positions = {class_id: position for position, class_id in enumerate(names)} | dict(job.positions)
    selected = [positions[class_id] for class_id in dataset.selected if class_id in positions]
    if budget is not None:
        scorer = dataclasses.replace(scorer, adaptive=spend_budget(scorer, images, budget, advance))
        advance = _stay  # nothing is left but to rank
    scored = rank_images(scorer, images, advance, labels, selected)
    if not scored.images:
        raise DatasetError(f"no image of {dataset.name} could be used", remedy="See the reasons with --on-error stop")
    return scored


def _stay(step: int = 1, remark: str = "") -> None:
    """An ``Advance`` for images that were counted before."""


def _results(job: EvaluationJob, plan: MethodPlan, scored: ScoredImages) -> list[MethodResult]:
    """How good each method is."""
    truth = np.asarray(scored.labels, dtype=np.int64)
    candidates = len(scored.selected) or len(job.label_space.names)
    voting = {method.name for method in plan.methods if method.votes}
    return [
        evaluate_ranks(name, ranking.ranks, truth, candidates, votes=name in voting, predicted=ranking.top[:, 0])
        for name, ranking in scored.methods.items()
    ]
