"""Evaluations of data sets x models x label spaces x methods, planned whole before anything is computed.

Models run one after the other and are released, so one is in memory at a time. Everything that does not depend on class
texts (attention, views) has cache keys without them, so an image is encoded once for each model and view plan.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.datasets.base import class_positions
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.feature_store import opened_store
from abs_classify.encoding.last_run import write_last_run
from abs_classify.encoding.samples import OnError
from abs_classify.encoding.spaces import PersistentStore
from abs_classify.encoding.stages import ModelSettings, Stages, open_stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.engines.base import opened_engine
from abs_classify.evaluation.evaluation_results import EvaluationResults
from abs_classify.evaluation.job import Evaluation, EvaluationJob, RankedPass, open_split, reseeded, run_job
from abs_classify.evaluation.predictions import PredictionCollector
from abs_classify.evaluation.records import ResultRecord, Run, records_of
from abs_classify.evaluation.results_folder import ResultsFolder
from abs_classify.evaluation.shares import refuse_unshareable, share_parts
from abs_classify.methods.parameters import split_names
from abs_classify.methods.table import MethodPlan, StreamOrder, ViewNumber, plan_methods
from abs_classify.models.deferred import LoadedModel
from abs_classify.models.store import short_names
from abs_classify.sharding import ShardSpec
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import DatasetError, ModelError, UsageError
from abs_core.labels import LabelSet, from_names
from abs_core.progress import Advance, Progress, no_progress
from abs_core.text import counted, quoted

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.engines.base import Engine
    from abs_classify.images import Truncated
    from abs_classify.methods.table import Method
    from abs_classify.models.base import Model
    from abs_classify.models.deferred import DeferredModel
    from abs_classify.models.store import WeightsStore

__all__ = [
    "EvaluationObserver",
    "Sweep",
    "SweepOptions",
    "as_label_spaces",
    "evaluate",
    "plan_sweep",
    "run_sweep",
]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepOptions:
    """What is the same for all combinations.

    Args:
        methods: rows of the table, or their names.
        views: how many views of each kind; None for each method's own number, "adaptive" or ``AdaptiveViews`` for as
            many of these as the label of an image needs.
        templates: the template set of methods that use one: a shipped id or a file.
        control: changes the descriptions: shuffle, swap, waffle or classname-only.
        limit: how many images of each data set; None for all.
        stratified: whether these are drawn from every class; otherwise they are the first.
        seed: of everything that is random.
        seeds: how often what is random is repeated, with the seeds from ``seed`` on.
        on_error: "stop" at an image that cannot be read and a label space that lacks classes of a data set, or "skip"
            both and name them in the results.
        truncated: whether a file that ends early cannot be read, or what there is of it is the image; see
            ``load_image``.
        stream_order: "shuffled", so that stream methods see the images in another order with each seed, or "dataset",
            in the order in which they are listed, which may tell their classes.
        shard: which share of the images of each data set is taken, ``2/8`` as text, or ``slurm`` for the place of the
            process in a job array; None for all. ``merge_results`` puts the results of all shares together.
    """

    methods: Sequence[str | Method]
    views: ViewNumber = None
    templates: str = "plain"
    control: str | None = None
    limit: int | None = None
    stratified: bool = False
    seed: int = 0
    seeds: int = 1
    on_error: OnError = "stop"
    truncated: Truncated = "refuse"
    stream_order: StreamOrder = "shuffled"
    shard: ShardSpec | None = None


@dataclass(frozen=True)
class Sweep:
    """What will run.

    Args:
        models: their names, each once.
        jobs: data sets x label spaces that fit, each for every model.
        on_error: as in ``SweepOptions``.
        left_out: why the other label spaces do not fit.
    """

    models: Sequence[str]
    jobs: Sequence[EvaluationJob]
    on_error: OnError = "stop"
    left_out: Sequence[str] = field(default_factory=list)

    @property
    def methods(self) -> list[Method]:
        """Those of all jobs; further seeds have no others."""
        return [method for job in self.jobs for method in job.plans[0].methods]

    @property
    def window_method(self) -> str:
        """The name of a method with feature windows, if there is one."""
        return next((method.name for method in self.methods if any(view.kind == "window" for view in method.views)), "")

    @property
    def combinations(self) -> int:
        """Data sets x label spaces x models."""
        return len(self.jobs) * len(self.models)


class EvaluationObserver:
    """Follows an evaluation while it runs; each method does nothing unless it is overridden."""

    def planned(self, sweep: Sweep) -> None:
        """What will run, before anything is computed. An error that is raised here stops the evaluation."""

    def ranked(self, ranked: RankedPass) -> None:
        """The rankings of a data set, model, label space and seed."""

    def finished(self, evaluation: Evaluation, records: Sequence[ResultRecord]) -> None:
        """An evaluation and its results. It must not be kept, since it holds the model."""


def evaluate(
    datasets: str | Dataset | Sequence[str | Dataset],
    models: str | Model | Sequence[str | Model] = "embedded",
    methods: str | Method | Sequence[str | Method] = ("clip", "cupl", "wca", "abs"),
    *,
    descriptions: LabelSpace | Sequence[LabelSpace] | Mapping[str, Sequence[str | Description]] | None = None,
    labels: LabelSet | Sequence[str] | None = None,
    seeds: int = 1,
    seed: int = 0,
    limit: int | None = None,
    stratified: bool = False,
    views: ViewNumber = None,
    templates: str = "plain",
    control: str | None = None,
    on_error: OnError = "stop",
    truncated: Truncated = "refuse",
    stream_order: StreamOrder = "shuffled",
    shard: ShardSpec | str | None = None,
    attention: str = "auto",
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int = 64,
    runtime: str = "auto",
    threads: int | None = None,
    weights: WeightsStore | None = None,
    cache: PersistentStore | Path | str | None = None,
    results: Path | str | None = None,
    command: Sequence[str] = (),
    progress: Progress = no_progress,
    observer: EvaluationObserver | None = None,
    engine: Engine | str = "local",
) -> EvaluationResults:
    """Classify labelled data sets with several models, descriptions and methods, and say how good each is.

    Everything is planned before anything is computed, so a wrong name costs nothing.

    Args:
        datasets, models, methods: see ``open_dataset``, ``available_models`` and ``METHODS`` ('clip,abs'); all crossed.
        descriptions, labels: candidate classes with descriptions, as label spaces or class id to sentences, or without;
            those of each data set where neither is given.
        seeds, seed, limit and all that follow, to ``shard``: see ``SweepOptions``.
        attention, device, dtype, batch_size, runtime: see ``ModelSettings``; a model that is loaded stays as it is.
        threads, weights: of torch, in the whole process; models that were imported.
        cache, engine: a folder that keeps what was computed; "local", "ray", or an ``Engine``, which computes it.
        results, command: a folder for result files, and the command line that they name, without credentials.
        progress, observer: show how many images are done, and follow each result.

    Raises:
        AbsError: what is named cannot be used, or an image cannot be read; results that are there are kept.
    """
    options = SweepOptions(
        _as_rows(methods), views, templates, control, limit, stratified, seed, seeds, on_error, truncated, stream_order,
        ShardSpec.of(shard),
    )  # fmt: skip
    named = _by_name(models)
    sweep = plan_sweep(_as_list(datasets), list(named), as_label_spaces(descriptions, labels), options)
    keeper = _Keeper(None if results is None else ResultsFolder(Path(results)), Run.now(command), observer)
    settings = ModelSettings(attention, device, dtype, seed, batch_size, runtime)
    stages_of = partial(_stages_of, named, settings, weights)
    return _run(sweep, stages_of, keeper, cache, threads, progress, engine)


def _stages_of(
    named: Mapping[str, str | Model],
    settings: ModelSettings,
    weights: WeightsStore | None,
    store: PersistentStore,
    name: str,
) -> Stages:
    """The stages of a model that is named or loaded."""
    model = named[name]
    if isinstance(model, str):
        return open_stages(store, model, settings, weights)
    loaded = LoadedModel(model, settings.attention, DigestCache(store.root))
    return Stages(store, loaded, settings.seed, settings.batch_size, scratch=store.root)


def _by_name(models: str | Model | Sequence[str | Model]) -> dict[str, str | Model]:
    """The models by what results call them.

    Raises:
        UsageError: two of them have one name.
    """
    named: dict[str, str | Model] = {}
    for model in models if isinstance(models, Sequence) and not isinstance(models, str) else [models]:
        name = model if isinstance(model, str) else model.name
        if named.setdefault(name, model) is not model and not isinstance(model, str):
            raise UsageError(f"two models have the name {name!r}", remedy="Wrap one of them under another name")
    return named


def plan_sweep(
    datasets: Sequence[str | Dataset],
    models: Sequence[str],
    label_spaces: Sequence[LabelSpace],
    options: SweepOptions,
) -> Sweep:
    """Open the data sets, match their classes with the label spaces, and build all class texts.

    Args:
        datasets, models: as in ``evaluate``; what is named twice runs once.
        label_spaces: candidate classes; none for those of each data set.
        options: everything else.

    Raises:
        UsageError, UnknownNameError, DatasetError, ...: what is named cannot be used; or a label space lacks classes of
            a data set and ``on_error`` is "stop"; or nothing is left to run.
    """
    if not options.methods:
        raise UsageError("at least one method must be given", remedy="Give methods, as in --methods clip,abs")
    if options.stratified and options.limit is None:
        raise UsageError("stratified needs a limit on the number of images", remedy="Add --limit N")
    splits = [
        open_split(
            dataset,
            options.limit,
            stratified=options.stratified,
            seed=options.seed,
            truncated=options.truncated,
            shard=options.shard,
        )
        for dataset in _each_once(datasets)
    ]
    pairs = [
        (split, label_space)
        for split in splits
        for label_space in label_spaces or [LabelSpace.of_labels(split.dataset.label_set)]
    ]
    jobs, left_out = [], []
    for split, label_space in pairs:
        try:
            positions = class_positions(split.dataset, label_space)
        except DatasetError as error:
            if len(pairs) == 1:
                raise
            if options.on_error == "stop":
                remedy = f"{error.remedy}, or leave out what does not fit together with --on-error skip"
                raise DatasetError(error.message, remedy=remedy) from error
            left_out.append(error.message)
            continue
        plans = _plans(label_space, options)
        if options.shard is not None:
            refuse_unshareable(plans)
        jobs.append(EvaluationJob(split, label_space, positions, plans))
    if not jobs:
        raise UsageError(f"no bundle fits any data set: {left_out[0]}", remedy="Use a bundle for these classes")
    return Sweep(list(dict.fromkeys(models)), jobs, options.on_error, left_out)


def _run(
    sweep: Sweep,
    stages_of: Callable[[PersistentStore, str], Stages],
    keeper: _Keeper,
    place: PersistentStore | Path | str | None,
    threads: int | None,
    progress: Progress,
    engine: Engine | str,
) -> EvaluationResults:
    keeper.prepare(sweep)
    if threads is not None:
        from abs_classify.threads import set_threads

        set_threads(threads)
    work = WorkCounts()
    with opened_store(place) as store, opened_engine(engine) as opened:
        try:
            run_sweep(sweep, partial(stages_of, store), keeper.keep, work, keeper.take, progress, opened)
        finally:
            keeper.log_files()
            # a run that failed before it asked for anything has nothing to explain; the one before it has
            if work.spaces and place is not None:
                write_last_run(store.root, work.space_uses())
    return EvaluationResults(keeper.records, sweep.left_out, keeper.run_folder, work)


def run_sweep(
    sweep: Sweep,
    stages_of: Callable[[str], Stages],
    finished: Callable[[Evaluation], None],
    work: WorkCounts,
    ranked: Callable[[RankedPass], None] | None = None,
    progress: Progress = no_progress,
    engine: Engine | None = None,
) -> None:
    """Run every job with every model.

    Args:
        sweep: what was planned.
        stages_of: the stages of a model, without loading it.
        finished: is given each evaluation when it is done; it must not keep it, since it holds the model.
        work: what was asked for and computed is added, also where the sweep stops.
        ranked, engine: as in ``run_job``.
        progress: shows how many images are done.

    Raises:
        AbsError: as ``run_job``, or a model cannot be used; evaluations that ``finished`` was given are done.
    """
    for model in sweep.models:
        _check_model(sweep, model, _stages(sweep, stages_of, model).models)
    images = sum(len(job.split.samples) * job.passes for job in sweep.jobs) * len(sweep.models)
    number, labels = 0, short_names(sweep.models)
    with progress("classifying", images, "images") as advance:
        for model, label in labels.items():
            stages = _stages(sweep, stages_of, model)
            with stages.timed("load"):
                grid = stages.models.facts.grid
            _check_grid(sweep, model, grid)
            if number == 0:
                _log_remarks(sweep)
            work_by_split: dict[int, WorkCounts] = {}
            try:
                for job in sweep.jobs:
                    number += 1
                    title = (
                        "" if sweep.combinations == 1 else f"{_title(job, label)} ({number} of {sweep.combinations})"
                    )
                    split_work = work_by_split.setdefault(id(job.split), WorkCounts())
                    tell = _with_remark(advance, title)
                    finished(run_job(job, label, stages, sweep.on_error, tell, split_work, ranked, engine))
            finally:
                for split_work in work_by_split.values():
                    work.add(split_work)
            del stages
            _release()


def _log_remarks(sweep: Sweep) -> None:
    """Say what was left out or guessed of the data sets, while stopping still costs nothing."""
    for dataset in {job.split.dataset.name: job.split.dataset for job in sweep.jobs}.values():
        for remark in dataset.remarks:
            _logger.warning("%s: %s", dataset.name, remark)


class _Keeper:
    """Makes the records of each evaluation, and writes their files if there is a folder for them."""

    def __init__(self, folder: ResultsFolder | None, run: Run, observer: EvaluationObserver | None) -> None:
        self._folder, self._run = folder, run
        self.observer = EvaluationObserver() if observer is None else observer
        self.run_folder = None if folder is None else folder.root / run.id
        self.records: list[ResultRecord] = []
        self._collector = PredictionCollector()

    def prepare(self, sweep: Sweep) -> None:
        """Prove that results can be kept, and tell what will run."""
        if self._folder is not None:
            self._folder.require_writable()
        self.observer.planned(sweep)
        for reason in sweep.left_out:
            _logger.info("left out: %s", reason)

    def take(self, ranked: RankedPass) -> None:
        """Take in the rankings of a seed."""
        if self._folder is not None:
            self._collector.add(ranked)
        self.observer.ranked(ranked)

    def keep(self, evaluation: Evaluation) -> None:
        """Keep the results of an evaluation."""
        records = records_of(evaluation, self._run)
        if self._folder is not None:
            predictions = self._collector.take()
            if evaluation.job.split.share is not None:
                predictions = replace(predictions, share=share_parts(evaluation).model_dump(mode="json"))
            records = self._folder.write_predictions(records, predictions)
            for record in records:
                self._folder.write(record)
        self.records += records
        self.observer.finished(evaluation, records)

    def log_files(self) -> None:
        """Say where the result files are, if there are any, also when the run was stopped."""
        if self.run_folder is not None and self.records:
            _logger.info("results: %s in %s", counted(len(self.records), "file", "files"), self.run_folder)


def _as_list(value: Any) -> list[Any]:
    from abs_classify.datasets import Dataset
    from abs_classify.methods.table import Method

    return [value] if isinstance(value, str | Dataset | Method) else list(value)


def _as_rows(methods: str | Method | Sequence[str | Method]) -> list[str | Method]:
    return list(split_names(methods)) if isinstance(methods, str) else _as_list(methods)


def _each_once(datasets: Sequence[str | Dataset]) -> list[str | Dataset]:
    return list({dataset if isinstance(dataset, str) else id(dataset): dataset for dataset in datasets}.values())


def as_label_spaces(
    descriptions: LabelSpace | Sequence[LabelSpace] | Mapping[str, Sequence[str | Description]] | None,
    labels: LabelSet | Sequence[str] | None,
) -> list[LabelSpace]:
    """The candidate classes that are given; none where those of each data set are meant.

    Raises:
        UsageError: both are given, or something else than label spaces.
    """
    if descriptions is not None and labels is not None:
        raise UsageError("descriptions and labels both give the candidate classes", remedy="Give one of them")
    if labels is not None:
        return [LabelSpace.of_labels(labels if isinstance(labels, LabelSet) else from_names(labels))]
    if isinstance(descriptions, LabelSpace):
        return [descriptions]
    if isinstance(descriptions, Mapping):
        from abs_classify.classifier import as_label_space

        return [as_label_space(descriptions, {})]
    spaces = [descriptions] if isinstance(descriptions, str) else list(descriptions or ())
    for space in spaces:
        if not isinstance(space, LabelSpace):
            raise UsageError(
                f"descriptions must be label spaces, or sentences by class id, got {quoted(str(space))}",
                remedy="Give Repository.local().read(NAME).label_space() of abs_descriptions",
            )
    return spaces


def _plans(label_space: LabelSpace, options: SweepOptions) -> list[MethodPlan]:
    def plan(seed: int) -> MethodPlan:
        named = plan_methods(options.methods, label_space, options.views, options.templates, options.control, seed)
        return replace(named, stream_order=options.stream_order)

    return reseeded([plan(options.seed + further) for further in range(options.seeds)])


def _stages(sweep: Sweep, stages_of: Callable[[str], Stages], model: str) -> Stages:
    stages = stages_of(model)
    stages.models = stages.models.for_methods(sweep.methods)
    return stages


def _check_model(sweep: Sweep, name: str, models: DeferredModel) -> None:
    """Find the weights of a model without reading them, and what it lacks, so that a wrong name costs nothing."""
    models.find_files()
    if sweep.window_method:
        _check_grid(sweep, name, models.grid_from_config())


def _check_grid(sweep: Sweep, model: str, grid: int | None) -> None:
    if sweep.window_method and grid == 0:
        raise ModelError(
            f"the model {model!r} has no token grid, and the method {sweep.window_method!r} needs feature windows",
            remedy="Use a method without them, such as abs-pixels, or a transformer model",
        )


def _title(job: EvaluationJob, model: str) -> str:
    bundle = "" if job.label_space.descriptions is None else job.label_space.source.partition("#")[0]
    return ", ".join(part for part in (job.split.dataset.name, model, bundle) if part)


def _with_remark(advance: Advance, default: str) -> Advance:
    def advance_with_remark(step: int = 1, remark: str = "") -> None:
        advance(step, remark or default)

    return advance_with_remark


def _release() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
