"""The grid of an evaluation: data sets x models x bundles x methods, planned whole before anything is computed.

Models run one after the other and are released, so one is in memory at a time. Everything that does not depend on a
bundle (attention, views) has cache keys without it, so an image is encoded once for each model and view plan.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from abs_classify.datasets.base import class_positions
from abs_classify.encoding.ranking import OnError, ScoredImages
from abs_classify.encoding.stages import Stages
from abs_classify.evaluation.job import (
    Evaluation,
    EvaluationJob,
    EvaluationSplit,
    evaluate,
    reseeded,
)
from abs_classify.methods.plan import MethodPlan, plan_methods
from abs_core.canonical import sha256_bytes
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError, ModelError, UsageError
from abs_core.progress import Advance, Progress, no_progress

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.methods.table import Method
    from abs_classify.models.deferred import DeferredModel

__all__ = ["Sweep", "SweepRequest", "plan_sweep", "quotas", "run_sweep", "stratified"]


def stratified(labels: Sequence[str], limit: int, seed: int) -> list[int]:
    """Positions of a stratified sample, in ascending order.

    Which images of a class are taken follows from the seed, the label and the place of an image among those of its
    class, so the sample is the same on every machine, and a class's larger share holds its smaller one.

    Args:
        labels: the class of each image, in the order of the data set.
        limit: how many images to take, at least one for each class that has any.
        seed: of the choice.

    Raises:
        UsageError: ``limit`` is below the number of classes that have images, so the sample would leave some out.
    """
    places: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        places.setdefault(label, []).append(at)
    if limit < len(places):
        raise UsageError(
            f"a stratified sample of {limit} images cannot hold one of each of the {len(places)} classes",
            remedy=f"Take at least {len(places)}, or leave out --stratified",
        )
    wanted = quotas({label: len(own) for label, own in places.items()}, limit)
    chosen = []
    for label, own in places.items():
        order = sorted((sha256_bytes(f"{seed}\0{nth}\0{label}".encode()), at) for nth, at in enumerate(own))
        chosen += [at for _, at in order[: wanted[label]]]
    return sorted(chosen)


def quotas(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """How many images of each class: its share of ``limit`` by largest remainder, at least one, at most all it has.

    Args:
        sizes: images of each class, each at least one.
        limit: how many in all; at least the number of classes.

    Returns:
        Class to count; the counts sum to ``limit``, or to all images where those are fewer.
    """
    total = sum(sizes.values())
    if limit >= total:
        return dict(sizes)
    shares = {label: limit * size / total for label, size in sizes.items()}
    given = {label: max(1, int(share)) for label, share in shares.items()}
    # what the minimum of one took too much is taken back where most was given beyond the share, and the rest goes the
    # other way; equal remainders are told apart by the label
    while (left := limit - sum(given.values())) != 0:
        step = 1 if left > 0 else -1
        open_ = [label for label in sizes if (given[label] < sizes[label] if step > 0 else given[label] > 1)]
        best = max(open_, key=lambda label: (step * (shares[label] - given[label]), label))
        given[best] += step
    return given


@dataclass(frozen=True)
class SweepRequest:
    """What the user asked for.

    Args:
        datasets, models, bundles: names; without bundles the classes come from ``labels`` or from each data set.
        methods: rows of the table.
        labels: class names without descriptions, or None.
        views, templates, control: as in ``plan_methods``.
        limit: how many images of each data set, or None.
        stratified: whether they are drawn from every class, instead of the first.
        seed: of every draw.
        seeds: how many draws of the views, with the seeds from ``seed`` on.
        on_error: whether a bad image stops the run, and combinations that do not fit.
    """

    datasets: Sequence[str]
    models: Sequence[str]
    bundles: Sequence[str]
    methods: Sequence[str]
    labels: str | None = None
    views: int | None = None
    templates: str = "plain"
    control: str | None = None
    limit: int | None = None
    stratified: bool = False
    seed: int = 0
    seeds: int = 1
    on_error: OnError = "stop"


@dataclass(frozen=True)
class Sweep:
    """What will run.

    Args:
        request: what was asked for.
        cells: data sets x bundles that fit, each for every model.
        left_out: why the others do not.
    """

    request: SweepRequest
    cells: Sequence[EvaluationJob]
    left_out: Sequence[str] = field(default_factory=list)

    @property
    def methods(self) -> list[Method]:
        """Those of all cells; further seeds have no others."""
        return [method for cell in self.cells for method in cell.plans[0].methods]

    @property
    def windowed(self) -> str:
        """The name of a method with feature views, if there is one."""
        return next((one.name for one in self.methods if any(view.kind == "window" for view in one.views)), "")

    @property
    def combinations(self) -> int:
        """Data sets x bundles x models."""
        return len(self.cells) * len(set(self.request.models))


def plan_sweep(request: SweepRequest, label_space_of: Callable[[str | None, Dataset | None], LabelSpace]) -> Sweep:
    """Open the data sets and bundles, match their classes, and build all texts.

    Args:
        request: what was asked for.
        label_space_of: the classes of a bundle; without one, those that ``labels`` names, or the data set's own.

    Raises:
        UsageError, UnknownNameError, DatasetError, BundleError, ...: what is named cannot be used; or a bundle lacks
            classes of a data set and ``on_error`` is "stop"; or nothing is left to run.
    """
    if not request.methods:
        raise UsageError("no method is named", remedy="Give --methods clip,abs or the like")
    if request.stratified and request.limit is None:
        raise UsageError("--stratified says how to choose images, not how many", remedy="Add --limit N")
    subjects = [_subject(spec, request) for spec in dict.fromkeys(request.datasets)]
    vocabularies: dict[str, LabelSpace] = {name: label_space_of(name, None) for name in dict.fromkeys(request.bundles)}
    pairs = [(subject, bundle) for subject in subjects for bundle in vocabularies or [None]]
    cells, left_out = [], []
    for subject, bundle in pairs:
        own = label_space_of(None, subject.dataset) if bundle is None else vocabularies[bundle]
        try:
            positions = class_positions(subject.dataset, own)
        except DatasetError as error:
            if len(pairs) == 1:
                raise
            if request.on_error == "stop":
                remedy = f"{error.remedy}, or leave out what does not fit together with --on-error skip"
                raise DatasetError(error.message, remedy=remedy) from error
            left_out.append(error.message)
            continue
        cells.append(EvaluationJob(subject, bundle, own, positions, _plans(own, request)))
    if not cells:
        raise UsageError(f"no bundle fits any data set: {left_out[0]}", remedy="Use a bundle for these classes")
    return Sweep(request, cells, left_out)


def run_sweep(
    grid: Sweep,
    stages_of: Callable[[str], Stages],
    finished: Callable[[Evaluation], None],
    passed: Callable[[EvaluationJob, str, int, ScoredImages], None] | None = None,
    progress: Progress = no_progress,
) -> None:
    """Evaluate every cell with every model.

    Args:
        grid: what was planned.
        stages_of: the stages of a model, without loading it.
        finished: is told of each evaluation when it is done; it must not keep it, since it holds the model.
        passed: as in ``evaluate``.
        progress: shows how many images are done.

    Raises:
        AbsError: as ``evaluate``, or a model cannot be used; evaluations that ``finished`` was told of are done.
    """
    request = grid.request
    models = list(dict.fromkeys(request.models))
    for name in models:
        _check_model(grid, name, _stages(grid, stages_of, name).models)
    images = sum(len(cell.subject.items) * cell.passes for cell in grid.cells) * len(models)
    done = 0
    with progress("classifying", images, "images") as advance:
        for name in models:
            stages = _stages(grid, stages_of, name)
            with stages.timed("load"):
                side = stages.models.facts.grid
            _check_views(grid, name, side)
            for cell in grid.cells:
                done += 1
                label = "" if grid.combinations == 1 else f"{_title(cell, name)} ({done} of {grid.combinations})"
                finished(evaluate(cell, name, stages, request.on_error, _labelled(advance, label), passed))
            del stages
            _release()


def _subject(spec: str, request: SweepRequest) -> EvaluationSplit:
    from abs_classify.datasets import open_dataset

    dataset = open_dataset(spec)
    if not dataset.samples:
        raise DatasetError(f"the data set {dataset.name} has no images", remedy="Check its folder")
    if request.limit is None or request.limit >= len(dataset.samples):
        return EvaluationSplit(dataset, dataset.samples)
    if not request.stratified:
        first = dataset.samples[: request.limit]
        of_classes = len(set(islice(dataset.labels, request.limit)))
        what = f"the first {request.limit} of {len(dataset.samples)} images, of {of_classes} classes: no random sample"
        return EvaluationSplit(dataset, first, what)
    return _stratified(dataset, request.limit, request.seed)


def _stratified(dataset: Dataset, limit: int, seed: int) -> EvaluationSplit:

    chosen = stratified(list(dataset.labels), limit, seed)
    items = [dataset.samples[at] for at in chosen]
    counts = Counter(item.label for item in items).values()
    each = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(min(counts))
    size = f"{limit} of {len(dataset.samples)} images"
    return EvaluationSplit(dataset, items, f"a stratified sample of {size}, {each} of each class, seed {seed}")


def _plans(vocabulary: LabelSpace, request: SweepRequest) -> list[MethodPlan]:
    def plan(seed: int) -> MethodPlan:
        return plan_methods(request.methods, vocabulary, request.views, request.templates, request.control, seed)

    return reseeded([plan(request.seed + more) for more in range(request.seeds)])


def _stages(grid: Sweep, stages_of: Callable[[str], Stages], name: str) -> Stages:
    stages = stages_of(name)
    stages.models = stages.models.for_methods(grid.methods)
    return stages


def _check_model(grid: Sweep, name: str, models: DeferredModel) -> None:
    """Find the weights of a model without reading them, and what it lacks, so that a wrong name costs nothing."""
    from abs_classify.models.attention import attention_files
    from abs_classify.models.registry import model_files

    model_files(models.name)
    attention_files(models.attention, models.name)
    if grid.windowed:
        _check_views(grid, name, models.grid_from_config())


def _check_views(grid: Sweep, name: str, side: int | None) -> None:
    if grid.windowed and side == 0:
        raise ModelError(
            f"the model {name!r} has no token grid, and the method {grid.windowed!r} needs feature views",
            remedy="Use a method without them, such as abs-pixels, or a transformer model",
        )


def _title(cell: EvaluationJob, model: str) -> str:
    named = [cell.subject.dataset.name, model, cell.bundle or ""]
    return ", ".join(part for part in named if part)


def _labelled(advance: Advance, label: str) -> Advance:
    def labelled(step: int = 1, remark: str = "") -> None:
        advance(step, remark or label)

    return labelled


def _release() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
