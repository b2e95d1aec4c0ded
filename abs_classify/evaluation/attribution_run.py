"""Runs the cells and controls of an attribution: a method that is guided, described and soft, taken apart.

Every cell sees the same images with the same seeds, and shares features with all other runs through the store: two sets
of views are encoded, whatever the number of cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abs_classify.encoding.feature_store import opened_store
from abs_classify.encoding.stages import ModelSettings, open_stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.attribution import CELLS, FACTORS, GainAttribution, attribute_right
from abs_classify.evaluation.predictions import PredictionCollector, RunPredictions
from abs_classify.evaluation.records import ResultRecord, Run, records_of
from abs_classify.evaluation.sweep import Sweep, SweepOptions, plan_sweep, run_sweep
from abs_classify.methods.class_texts import (
    ClassTextInputs,
    ClassTexts,
    Sentences,
    Template,
    TemplateEnsemble,
    read_template_set,
)
from abs_classify.methods.controls import apply_control
from abs_classify.methods.scoring import MeanSimilarity, SoftMatch
from abs_classify.methods.table import Method, MethodPlan, get_method, with_view_count
from abs_classify.methods.views import GuidedViews, ViewSource
from abs_core.errors import DatasetError, UsageError
from abs_core.progress import Progress, no_progress
from abs_core.result_tables import data_frame
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.encoding.samples import OnError
    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.encoding.stages import Stages
    from abs_classify.evaluation.job import Evaluation
    from abs_classify.images import Truncated
    from abs_classify.models.store import WeightsStore
    from abs_core.descriptions import LabelSpace

__all__ = ["ATTRIBUTION_CONTROLS", "AttributionResults", "attribute_gain"]

#: what takes the place of the descriptions, see ``methods.controls``
ATTRIBUTION_CONTROLS = ("shuffle", "swap", "waffle")

# images below which the intervals of sums over cells are too narrow or too wide to rely on
_FEW_IMAGES = 30


@dataclass(frozen=True)
class AttributionResults:
    """Where the gain of a method over random views, class names and mean matching comes from.

    Attributes:
        attribution: the numbers.
        method: its name.
        source: where the descriptions come from: a pinned reference.
        seeds: that were run.
        results: a record for each cell, in the order of ``CELLS``, and for each control: with model, data set and all
            that can change the numbers. They are of the first seed.
        remarks: what must be said beside the numbers.
        work: how many images, views and texts were asked for, and how many of them were computed.
    """

    attribution: GainAttribution
    method: str
    source: str
    seeds: Sequence[int]
    results: Sequence[ResultRecord]
    remarks: Sequence[str]
    work: WorkCounts

    def __str__(self) -> str:
        """Tables for a terminal."""
        from abs_classify.evaluation.attribution_tables import attribution_text

        return attribution_text(self)

    def __repr__(self) -> str:
        from abs_classify.evaluation.attribution_tables import attribution_verdict

        return f"<AttributionResults of {self.method!r}: {attribution_verdict(self.attribution)}>"

    def _repr_html_(self) -> str:
        from abs_classify.evaluation.attribution_tables import attribution_html

        return attribution_html(self)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: top-1 of each combination, and of each control, as shares with 95 % intervals.

        Raises:
            UsageError: pandas is not installed.
        """
        from abs_classify.evaluation.attribution_tables import attribution_rows

        return data_frame(attribution_rows(self.attribution), ("views", "texts", "matching", "top1", "low", "high"))

    def to_markdown(self) -> str:
        """The same tables as Markdown; ends with a line feed."""
        from abs_classify.evaluation.attribution_tables import attribution_markdown

        return attribution_markdown(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with all digits."""
        from abs_classify.evaluation.attribution_tables import attribution_value

        return attribution_value(self)


def attribute_gain(
    descriptions: LabelSpace,
    dataset: str | Dataset,
    *,
    method: str | Method = "abs",
    model: str = "embedded",
    views: int | None = None,
    templates: str | None = None,
    seeds: int = 1,
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
) -> AttributionResults:
    """Say which share of a gain comes from guided views, which from descriptions, and which from soft matching.

    Eight cells classify the same images, and so do shuffled, swapped and random texts in place of the descriptions.

    Args:
        descriptions: classes with descriptions.
        dataset: labelled images. They are encoded twice for each seed: with guided views and with random ones.
        method: a row of the table, or its name, with guided views, sentences and soft matching. The other cells differ
            from it in nothing but their factors.
        views: how many of each kind; None for the method's own number.
        templates: a template set that makes several texts of each class name; None for "a photo of a {class}." alone.
        model, seeds, seed, limit, stratified, and what follows them: as in ``evaluate``.

    Raises:
        UsageError: there are no descriptions, the method cannot be taken apart, or a number is out of range.
        AbsError: what is named cannot be used, or an image cannot be read; see ``evaluate``.
    """
    row = _checked_method(method, descriptions, views, seeds)
    options = SweepOptions(
        [row], views, limit=limit, stratified=stratified, seed=seed, on_error=on_error, truncated=truncated
    )
    sweep = _plan_sweep(dataset, model, descriptions, options)
    rows = _rows(row if views is None else with_view_count(row, views))
    plans = [_plan(rows, descriptions, templates, seed + further) for further in range(seeds)]
    planned = dataclasses.replace(sweep, jobs=[dataclasses.replace(job, plans=plans) for job in sweep.jobs])
    if threads is not None:
        from abs_classify.threads import set_threads

        set_threads(threads)
    settings = ModelSettings(attention, device, dtype, seed, batch_size, runtime)
    with opened_store(cache) as store:
        predictions, results, work = _run(planned, open_stages(store, model, settings, weights), progress)
    attribution, left_out = _attribution(predictions, rows)
    remarks = [*_remarks(row.name, rows, results), *_own_remarks(attribution, left_out)]
    used = range(seed, seed + seeds)
    return AttributionResults(attribution, row.name, descriptions.source, used, results, remarks, work)


def _run(sweep: Sweep, stages: Stages, progress: Progress) -> tuple[RunPredictions, list[ResultRecord], WorkCounts]:
    work, collector, results = WorkCounts(), PredictionCollector(), list[ResultRecord]()

    def keep(evaluation: Evaluation) -> None:
        results.extend(records_of(evaluation, Run.now()))

    run_sweep(sweep, lambda _: stages, keep, work, collector.add, progress)
    return collector.take(), results, work


def _checked_method(named: str | Method, descriptions: LabelSpace, views: int | None, seeds: int) -> Method:
    method = get_method(named) if isinstance(named, str) else named
    guided = all(isinstance(view, GuidedViews) and view.guided for view in method.views)
    if not (guided and isinstance(method.texts, Sentences) and isinstance(method.scorer, SoftMatch)):
        raise UsageError(
            f"the method {method.name!r} does not join guided views, descriptions and soft matching, so that there is "
            "nothing to take apart",
            remedy="Use abs, abs-pixels, abs-features or abs-aligned",
        )
    if not any((descriptions.descriptions or {}).values()):
        raise UsageError(
            f"an attribution needs descriptions, and {descriptions.source!r} has none",
            remedy="Name a bundle with --bundle; abs gen-descriptions writes one for your classes",
        )
    if views is not None and (not isinstance(views, int) or views < 1):
        raise UsageError(
            f"views must be a whole number from 1 on, got {views!r}",
            remedy="Give a number: with adaptive views the cells would not see the same",
        )
    if seeds < 1:
        raise UsageError(f"seeds must be 1 or more, got {seeds}", remedy="Give the number of seeds")
    return method


def _plan_sweep(dataset: str | Dataset, model: str, descriptions: LabelSpace, options: SweepOptions) -> Sweep:
    try:
        return plan_sweep([dataset], [model], [descriptions], options)
    except DatasetError as error:
        # class names alone, which other commands advise, are no remedy here
        remedy = "Use a bundle for the classes of these images" if "--labels" in error.remedy else error.remedy
        raise DatasetError(error.message, remedy=remedy) from error


def _rows(row: Method) -> Mapping[tuple[str, str, str], Method]:
    """The rows of the cells, in order, and of the controls, by what their levels are called."""
    random = tuple(dataclasses.replace(view, guided=False) for view in row.views if isinstance(view, GuidedViews))
    views: tuple[tuple[ViewSource, ...], ...] = (random, row.views)
    scorers = (MeanSimilarity(), row.scorer)
    levels = list(FACTORS.values())
    rows = {}
    for of_views, of_texts, of_matching in CELLS:
        name = (levels[0][of_views], levels[1][of_texts], levels[2][of_matching])
        rows[name] = dataclasses.replace(row, name=_joined(name), views=views[of_views], scorer=scorers[of_matching])
    for control in ATTRIBUTION_CONTROLS:
        name = ("guided", control, "soft")
        rows[name] = dataclasses.replace(row, name=_joined(name))
    return rows


def _joined(levels: Sequence[str]) -> str:
    return "+".join(levels).replace(" ", "-")


def _plan(
    rows: Mapping[tuple[str, str, str], Method], space: LabelSpace, templates: str | None, seed: int
) -> MethodPlan:
    """The rows with their class texts; the controls draw anew with each seed."""
    template_set = read_template_set(templates or "plain")
    inputs = ClassTextInputs(space.names, space.descriptions, template_set.templates)
    names = Template() if templates is None else TemplateEnsemble()
    known: dict[str, ClassTexts] = {FACTORS["texts"][0]: names.build(inputs)}
    for (_, texts, _), row in rows.items():
        if texts in ATTRIBUTION_CONTROLS:
            controlled = apply_control(texts, space.descriptions or {}, space.names, seed)
            known[texts] = row.texts.build(dataclasses.replace(inputs, descriptions=controlled))
        elif texts not in known:
            known[texts] = row.texts.build(inputs)
    return MethodPlan({row: known[texts] for (_, texts, _), row in rows.items()}, None, template_set.id, seed)


def _attribution(
    predictions: RunPredictions, rows: Mapping[tuple[str, str, str], Method]
) -> tuple[GainAttribution, int]:
    """The numbers, and how many images were left out that could be read with some seeds only."""
    passes = [predictions.of(row.name) for row in rows.values()]
    ranks = np.array([[of_seed.ranks for of_seed in of_row] for of_row in passes])
    readable = (ranks > 0).all(axis=(0, 1))
    right = ranks[:, :, readable] == 1
    controls = dict(zip(ATTRIBUTION_CONTROLS, right[len(CELLS) :], strict=True))
    return attribute_right(right[: len(CELLS)], controls), int((~readable).sum())


def _remarks(name: str, rows: Mapping[tuple[str, str, str], Method], results: Sequence[ResultRecord]) -> list[str]:
    """What the evaluation says beside its results, about the method instead of all of its cells."""
    cells = [row.name for row in rows.values()]
    expected = {row.name for (_, texts, _), row in rows.items() if texts in ATTRIBUTION_CONTROLS}
    details = results[0].details
    # a control at the level of chance is a finding, and no sign of wrong labels
    warnings = [text for text in details.warnings if not set(text.partition(": ")[0].split(", ")) <= expected]
    notes = [text.replace(", ".join(cells), name) for text in details.notes]
    return list(dict.fromkeys([*(f"warning: {text}" for text in warnings), *notes]))


def _own_remarks(attribution: GainAttribution, left_out: int) -> list[str]:
    remarks = []
    if left_out:
        remarks.append(f"{counted(left_out, 'image', 'images')} could not be read with every seed, and are left out")
    if attribution.images < _FEW_IMAGES:
        remarks.append(
            f"warning: the intervals of contributions and effects hold for many images, and these are "
            f"{attribution.images}"
        )
    return remarks
