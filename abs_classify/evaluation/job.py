"""A job: the images of a data set, classified by every method with one model and each seed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abs_classify.encoding.ranking import ScoredImages, ShardScorer, rank_images
from abs_classify.encoding.samples import OnError
from abs_classify.encoding.stages import Stages
from abs_classify.evaluation.metrics import MethodResult, SeedSpread, evaluate_ranks
from abs_classify.evaluation.published import SINGLE, BaselineCheck, find_published
from abs_classify.evaluation.split import EvaluationSplit, benchmarks_by_name
from abs_classify.methods.plan import MethodPlan
from abs_classify.models.deferred import model_notes
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError
from abs_core.labels import fold, shipped_label_set
from abs_core.progress import Advance
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset

__all__ = ["Evaluation", "EvaluationJob", "RankedPass", "reseeded", "run_job"]


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
        model: as the user named it.
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
        model: as the user named it.
        stages: with the features of the first seed in the cache.
        scored: the rankings of the first seed.
        results: of the first seed, one for each method.
        redraws: the results of each further seed, only of methods that draw something.
        seconds: wall time.
        stage_seconds: wall time by what it went into.
    """

    job: EvaluationJob
    model: str
    stages: Stages
    scored: ScoredImages
    results: Sequence[MethodResult]
    redraws: Sequence[Sequence[MethodResult]]
    seconds: float
    stage_seconds: Mapping[str, float]

    @property
    def plan(self) -> MethodPlan:
        """The plan of the first seed."""
        return self.job.plans[0]

    @property
    def label_space(self) -> LabelSpace:
        """The classes that an image could get."""
        return self.job.label_space

    def spread(self, method: str) -> SeedSpread:
        """Top-1 accuracies of a method over the seeds; one value where it draws nothing."""
        by_seed = [self.results, *self.redraws]
        accuracies = [result.top1.value for results in by_seed for result in results if result.method == method]
        return SeedSpread.of(accuracies, self.plan.seed)

    def baselines(self) -> list[BaselineCheck]:
        """Published numbers of plain CLIP beside the measured ones, where they are of the same images and model."""
        return [check for check, _ in self._checked()]

    def warnings(self) -> list[str]:
        """What the reader must not miss."""
        methods_by_alarm: dict[str, list[str]] = {}
        for result in self.results:
            if result.alarm:
                methods_by_alarm.setdefault(result.alarm, []).append(result.method)
        alarms = [f"{', '.join(methods)}: {alarm}" for alarm, methods in methods_by_alarm.items()]
        off = [check.text(result.top1) for check, result in self._checked() if check.off]
        skipped = [f"skipped {image.name}: {image.reason}" for image in self.scored.skipped]
        return alarms + off + skipped

    def notes(self) -> list[str]:
        """What the reader should know."""
        near = [check.text(result.top1) for check, result in self._checked() if not check.off]
        images = self.job.split.notes(self.scored.images, self.label_space.names)
        return [*images, *self._classes_without_data(), *self.plan.notes, *near, *model_notes(self.model)]

    def _checked(self) -> list[tuple[BaselineCheck, MethodResult]]:
        split = self.job.split
        if not split.whole or self.scored.skipped or not _published_candidates(split.dataset, self.label_space):
            return []
        templates = {"clip": SINGLE, "clip-e": self.plan.templates}
        return [
            (BaselineCheck.of(result, number), result)
            for result in self.results
            if result.method in templates
            for number in find_published(
                split.dataset.benchmark, split.dataset.split, self.model, templates[result.method]
            )
        ]

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


def reseeded(plans: Sequence[MethodPlan]) -> list[MethodPlan]:
    """The plans of all seeds, those after the first without the methods that draw nothing: neither views nor texts.

    A method that draws stays in every plan, also where a seed happens to draw the same texts as the first.
    """
    texts: dict[str, set[str]] = {}
    for plan in plans:
        for method, class_texts in plan.methods.items():
            texts.setdefault(method.name, set()).add(class_texts.digest)
    draws = {
        method.name
        for method in plans[0].methods
        if len(texts[method.name]) > 1 or any(view.kind != "whole" for view in method.views)
    }

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
    ranked: Callable[[RankedPass], None] | None = None,
) -> Evaluation:
    """Score the images of a job with every seed.

    Args:
        job: what was planned.
        model: as the user named it.
        stages: of that model, with the first seed.
        on_error: whether an image that cannot be read stops the run.
        advance: is told of each finished shard.
        ranked: is given the rankings of each seed.

    Raises:
        DatasetError: no image could be used.
        ImageError: an image cannot be read and ``on_error`` is "stop"; finished shards stay in the cache.
    """
    start, before = time.perf_counter(), {**stages.seconds, "identify": job.split.seconds}
    first: ScoredImages | None = None
    results: list[list[MethodResult]] = []
    for plan in job.plans:
        if not plan.methods:
            continue
        scored, pass_results = _run_pass(job, plan, dataclasses.replace(stages, seed=plan.seed), on_error, advance)
        if ranked is not None:
            ranked(RankedPass(job, model, plan.seed, scored))
        first = scored if first is None else first
        results.append(pass_results)
    assert first is not None  # the first plan has methods
    after = {"identify": job.split.seconds, **stages.seconds}
    stage_seconds = {name: total - before.get(name, 0.0) for name, total in after.items()}
    seconds = time.perf_counter() - start
    return Evaluation(job, model, stages, first, results[0], results[1:], seconds, stage_seconds)


def _run_pass(
    job: EvaluationJob, plan: MethodPlan, stages: Stages, on_error: OnError, advance: Advance
) -> tuple[ScoredImages, list[MethodResult]]:
    dataset, names = job.split.dataset, job.label_space.names
    images, unreadable = job.split.identify(stages.models.digests, on_error)
    labels = [job.positions[image.sample.label] for image in images]
    positions = {class_id: position for position, class_id in enumerate(names)} | dict(job.positions)
    selected = [positions[class_id] for class_id in dataset.selected if class_id in positions]
    scorer = ShardScorer(stages, plan.methods, on_error, skipped=job.split.bad)
    scored = rank_images(scorer, images, advance, labels, selected)
    scored.skipped[:0] = unreadable
    if not scored.images:
        raise DatasetError(f"no image of {dataset.name} could be used", remedy="See the reasons with --on-error stop")
    truth = np.asarray(scored.labels, dtype=np.int64)
    candidates = len(selected) or len(names)
    results = [evaluate_ranks(name, ranking.ranks, truth, candidates) for name, ranking in scored.methods.items()]
    return scored, results


def _published_candidates(dataset: Dataset, label_space: LabelSpace) -> bool:
    """Whether as many classes compete as in the published runs: all of the data set, its own where it has a part."""
    classes = len(shipped_label_set(benchmarks_by_name()[dataset.benchmark].labels).ids)
    return classes in (len(label_space.names), len(dataset.selected))
