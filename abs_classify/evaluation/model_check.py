"""Whether a model gives the numbers that others publish: what to run with real weights before they are trusted.

The runs are those of ``evaluate``, the published numbers those of ``published``. Where images, class names and texts
are those of the published run, only rounding, resizing and precision may differ, and ``TOLERANCE`` decides: an
interval for images that might have been others would excuse wrong templates. Elsewhere the interval decides as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from abs_classify.datasets import open_dataset
from abs_classify.encoding.feature_store import opened_store
from abs_classify.encoding.stages import ModelSettings, open_stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.evaluation.job import result_warnings
from abs_classify.evaluation.metrics import MethodResult
from abs_classify.evaluation.published import (
    TOLERANCE,
    GuardedRun,
    PublishedComparison,
    PublishedMetric,
    PublishedNumber,
    published_name,
    published_numbers,
)
from abs_classify.evaluation.records import ResultRecord
from abs_classify.evaluation.sections import TableSection
from abs_classify.evaluation.significance import wilson
from abs_classify.evaluation.sweep import EvaluationObserver, as_label_spaces, evaluate
from abs_core.errors import UnknownNameError, UsageError
from abs_core.progress import Progress, no_progress
from abs_core.result_tables import data_frame, html_table
from abs_core.text import counted, printable

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset
    from abs_classify.encoding.samples import OnError
    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.evaluation.evaluation_results import EvaluationResults
    from abs_classify.evaluation.job import Evaluation
    from abs_classify.images import Truncated
    from abs_classify.methods.table import Method
    from abs_classify.models.base import Model
    from abs_classify.models.store import WeightsStore
    from abs_core.descriptions import LabelSpace
    from abs_core.labels import LabelSet

__all__ = ["CheckedNumber", "CheckedRun", "ModelCheck", "Verdict", "check_model", "check_results"]

Verdict = Literal["agrees", "differs", "no published number"]

# without descriptions, and what needs them
_PLAIN, _DESCRIBED = ("clip", "clip-e"), ("cupl", "wca", "abs")
# of two published numbers that have as much in common with a run, the nearer one
_NEAREST_METHOD = {"abs": "wca"}
_NEAREST_MODEL = "ViT-B-32-quickgelu/openai"

_COLUMNS = ("method", "metric", "measured", "low", "high", "published", "difference", "verdict", "source")


@dataclass(frozen=True)
class CheckedNumber:
    """A measured number beside the published one.

    Attributes:
        method: the row of the method table.
        metric: ``acc1`` or ``mean_per_class_recall``.
        measured, low, high: a share, and its 95 % Wilson interval over the images; see ``CheckedRun.interval``.
        number: the published one; None if there is none of this model, data set and method.
        verdict: what to make of both.
        nearest: where there is none, the published number that has most in common with the run; None if nothing.
        remarks: what the published run does not share, or may not.
        causes: of a difference, the likely ones first.
    """

    method: str
    metric: PublishedMetric
    measured: float
    low: float
    high: float
    number: PublishedNumber | None
    verdict: Verdict
    nearest: PublishedNumber | None = None
    remarks: Sequence[str] = ()
    causes: Sequence[str] = ()

    @property
    def difference(self) -> float | None:
        """Measured minus published, a share."""
        return None if self.number is None else self.measured - self.number.percent / 100

    def to_dict(self) -> dict[str, Any]:
        """JSON values: shares with all digits."""
        return {
            "method": self.method,
            "metric": self.metric,
            "measured": self.measured,
            "low": self.low,
            "high": self.high,
            "published": None if self.number is None else self.number.percent / 100,
            "difference": self.difference,
            "verdict": self.verdict,
            "source": None if self.number is None else self.number.source,
            "nearest": None if self.nearest is None else _described(self.nearest),
            "remarks": list(self.remarks),
            "causes": list(self.causes),
        }


@dataclass(frozen=True)
class CheckedRun:
    """What was run, as far as it decides what a difference means.

    Args:
        guarded: images, model, class names and texts; the model as its numbers are published.
        images_by_class: how many images each class with images has.
        sample: how a part of the images was chosen, or which were left out; empty for the whole data set.
        input_size: the shorter side of what the model sees of an image, in pixels.
        dtype: of the weights.
        named_by_user: whether the user says which published weights these are, by ``published_as`` or ``NAME@FILE``.
    """

    guarded: GuardedRun
    images_by_class: Mapping[str, int]
    sample: str
    input_size: int
    dtype: str
    named_by_user: bool

    @property
    def dataset(self) -> str:
        """The published data set and split; empty for other images."""
        return f"{self.guarded.benchmark} ({self.guarded.split})" if self.guarded.benchmark else ""

    def interval(self, share: float, metric: PublishedMetric) -> tuple[float, float]:
        """The 95 % Wilson interval of a share of the images.

        For the mean recall, Wilson's with as many images as would give it the same variance if all classes had one
        recall: C^2 / sum(1 / n_c) for C classes with n_c images.
        """
        counts = self.images_by_class.values()
        trials: float = sum(counts)
        if metric == "mean_per_class_recall":
            trials = len(counts) ** 2 / sum(1 / count for count in counts)
        return wilson(share * trials, trials)

    def causes(self, number: PublishedNumber, result: MethodResult) -> Iterator[str]:
        """What may have made a difference: what is known to differ, then what may; never what is known to agree."""
        if result.alarm:
            yield f"labels: {result.alarm}"
        known = {name: f"{name}: {text}" for name, text in self.guarded.differences(number).items()}
        split = [f"split: {self.sample}, and the number is of all images"] if self.sample else []
        yield from (known[name] for name in ("class names", "templates", "descriptions") if name in known)
        if known:
            yield from split
        yield (
            f"resolution and preprocessing: the model sees {self.input_size} x {self.input_size} pixels, see `abs "
            "models show`; photos are turned as EXIF says, as the published run may not have done (?orientation=stored)"
        )
        if self.named_by_user:
            yield "weights and QuickGELU: nothing checks that these are the published weights, with their activation"
        if not known:
            yield from split
        if not self.sample:
            yield "split: as many images as the split has, but whether they are its images is not checked"
        if self.dtype != "float32":
            yield f"precision: the weights are {self.dtype}"
        if number.method not in _PLAIN and number.method != "cupl":
            yield "random views: another --seed moves the number too"


@dataclass(frozen=True, repr=False)
class ModelCheck:
    """Measured beside published numbers.

    Attributes:
        numbers: one for each method and metric.
        model, dataset: as they were given.
        checked: what was run.
        results: a record for each method, with all that can change its numbers.
        remarks: what must be said beside the numbers.
        work: how many images, views and texts were asked for, and how many of them were computed.
    """

    numbers: Sequence[CheckedNumber]
    model: str
    dataset: str
    checked: CheckedRun
    results: Sequence[ResultRecord]
    remarks: Sequence[str]
    work: WorkCounts

    @property
    def differs(self) -> bool:
        """Whether any number differs from the published one."""
        return any(number.verdict == "differs" for number in self.numbers)

    def __repr__(self) -> str:
        verdicts = Counter(number.verdict for number in self.numbers)
        return f"<ModelCheck of {self.model!r} on {self.dataset!r}: {_counts(verdicts)}>"

    def __str__(self) -> str:
        """A table for a terminal, and what stands below it."""
        lines = [printable(f"{name}: {text}") for name, text in self._facts()]
        header = ["method", "metric", "measured % [95 %]", "published %", "points", "verdict"]
        table = TableSection("measured beside published", header, [_cells(number) for number in self.numbers], 2)
        notes = [line for number in self.numbers for line in _notes(number)]
        lines += ["", *table.text(), ""] + ([*notes, ""] if notes else [])
        lines += [
            f"agrees: {_RULE}",
            *(text if text.startswith("warning: ") else f"note: {text}" for text in self.remarks),
        ]
        return "\n".join([*map(printable, lines), _counts(Counter(number.verdict for number in self.numbers))])

    def _repr_html_(self) -> str:
        rows = [[f"{cell:.4f}" if isinstance(cell, float) else cell for cell in row.values()] for row in self._rows()]
        return html_table(f"{self.model} on {self.dataset}", _COLUMNS, rows)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: a row for each number, as shares.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame(self._rows(), _COLUMNS)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with all digits."""
        return {
            "model": self.model,
            "published_as": self.checked.guarded.model,
            "dataset": self.dataset,
            "benchmark": self.checked.guarded.benchmark,
            "split": self.checked.guarded.split,
            "whole": self.checked.guarded.whole,
            "differs": self.differs,
            "tolerance": TOLERANCE / 100,
            "numbers": [number.to_dict() for number in self.numbers],
            "remarks": list(self.remarks),
            "results": [record.model_dump(mode="json") for record in self.results],
        }

    def _rows(self) -> list[dict[str, Any]]:
        values = (number.to_dict() for number in self.numbers)
        return [{column: value[column] for column in _COLUMNS} for value in values]

    def _facts(self) -> Iterator[tuple[str, str]]:
        details, checked = self.results[0].details, self.checked
        part = f"; {checked.sample}" if checked.sample else "; the whole split" if checked.guarded.whole else ""
        of = f" is {checked.dataset}" if checked.dataset else " is no published data set"
        yield "data set", f"{self.dataset}{of}: {counted(details.data.images, 'image', 'images')}{part}"
        yield "classes", f"{details.classes.source}, {details.classes.count}"
        published = checked.guarded.model
        yield "model", self.model if published == self.model else f"{self.model}, compared with numbers of {published}"


_RULE = (
    f"at most {TOLERANCE:g} point from the published number; where images, class names or texts are not those of the "
    "published run, also inside the 95 % interval"
)


def check_model(
    dataset: str | Dataset,
    model: str | Model = "embedded",
    methods: Sequence[str | Method] = (),
    *,
    descriptions: LabelSpace | None = None,
    labels: LabelSet | Sequence[str] | None = None,
    published: Sequence[PublishedNumber] | None = None,
    published_as: str | None = None,
    templates: str | None = None,
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
) -> ModelCheck:
    """Run a model on a data set, and say whether its numbers are those that others publish.

    Args:
        dataset, model: see ``open_dataset`` and ``available_models``.
        methods: rows of the table; none for clip and clip-e, with descriptions cupl and wca, and with windows abs.
        published: what is compared with; None for the tables that ship.
        published_as: the published weights that the model has under another name; None for its own name.
        templates: of clip-e; None for those of the published numbers, or "plain" where there are none.
        limit, stratified: a sample of the images; only a stratified one can be compared with numbers of all images.
        descriptions, labels, and what follows ``stratified``: as in ``evaluate``.

    Raises:
        UsageError: a limit without ``stratified``.
        UnknownNameError: no number is published of ``published_as``.
        AbsError: what is named cannot be used, or an image cannot be read; see ``evaluate``.
    """
    opened = open_dataset(dataset) if isinstance(dataset, str) else dataset
    numbers = published_numbers() if published is None else tuple(published)
    _refuse_incomparable(limit is None or stratified, published_as, numbers)
    spaces = as_label_spaces(descriptions, labels)
    settings = ModelSettings(attention, device, dtype, seed, batch_size, runtime)
    observer = _Observer(published_as)
    with opened_store(cache) as store:
        chosen, remarks = (
            (list(methods), [])
            if methods
            else _usual_methods(spaces, lambda: _has_no_windows(model, settings, store, weights))
        )
        results = evaluate(
            opened, model, chosen, descriptions=spaces or None, seed=seed, limit=limit, stratified=stratified,
            templates=templates or _published_templates(opened.benchmark, numbers), on_error=on_error,
            truncated=truncated, attention=attention, device=device, dtype=dtype, batch_size=batch_size,
            runtime=runtime, threads=threads, weights=weights, cache=store, progress=progress, observer=observer,
        )  # fmt: skip
    return observer.check(model if isinstance(model, str) else model.name, numbers, results, remarks)


def _refuse_incomparable(is_fair: bool, published_as: str | None, numbers: Sequence[PublishedNumber]) -> None:
    """Refuse a part of the images that says nothing of all of them, and weights that nobody publishes numbers of.

    Raises:
        UsageError, UnknownNameError: as in ``check_model``.
    """
    if not is_fair:
        raise UsageError(
            "the first images of a data set are no random sample, so they cannot be compared with published numbers",
            remedy="Add --stratified, or leave out --limit",
        )
    if published_as and published_name(published_as) not in (known := {number.model for number in numbers}):
        raise UnknownNameError("published model", published_as, sorted(known))


def _usual_methods(
    spaces: Sequence[LabelSpace], has_no_windows: Callable[[], bool]
) -> tuple[list[str | Method], list[str]]:
    """The methods that the label space and the model allow, and why others did not run."""
    if not (spaces and spaces[0].descriptions):
        return [*_PLAIN], [f"{', '.join(_DESCRIBED)} did not run: they need descriptions (--bundle)"]
    if has_no_windows():
        without = [*_PLAIN, *(name for name in _DESCRIBED if name != "abs")]
        return [*without], ["abs did not run: the model has no token grid, so there are no feature windows"]
    return [*_PLAIN, *_DESCRIBED], []


def check_results(
    checked: CheckedRun, results: Sequence[MethodResult], numbers: Sequence[PublishedNumber]
) -> list[CheckedNumber]:
    """A verdict on each method, for each metric that is published of it; for top-1 where none is.

    Of two numbers for one row the one that has most in common with the run counts, else the first.

    Args:
        checked: what was run.
        results: one for each method.
        numbers: all that are published.
    """
    return [number for result in results for number in _checked_result(checked, result, numbers)]


def _checked_result(
    checked: CheckedRun, result: MethodResult, numbers: Sequence[PublishedNumber]
) -> Iterator[CheckedNumber]:
    run, by_metric = checked.guarded, dict[PublishedMetric, list[PublishedNumber]]()
    for number in numbers:
        same_images = run.benchmark and (number.dataset, number.split) == (run.benchmark, run.split)
        if same_images and (number.method, number.model) == (result.method, run.model):
            by_metric.setdefault(number.metric, []).append(number)
    for same in by_metric.values():
        number = min(same, key=lambda number: len(run.differences(number)))
        yield _compared(checked, result, number, [other for other in same if other.percent != number.percent])
    if not by_metric:
        low, high = checked.interval(result.top1.value, "acc1")
        nearest = _nearest(run, result.method, numbers)
        yield CheckedNumber(result.method, "acc1", result.top1.value, low, high, None, "no published number", nearest)


def _compared(
    checked: CheckedRun, result: MethodResult, number: PublishedNumber, others: Sequence[PublishedNumber]
) -> CheckedNumber:
    measured = result.top1.value if number.metric == "acc1" else result.mean_recall
    low, high = checked.interval(measured, number.metric)
    differences = checked.guarded.differences(number)
    is_exact = checked.guarded.whole and not differences
    # a share of images is no binary fraction: exactly one point apart is not more
    is_near = abs(100 * measured - number.percent) <= TOLERANCE + 1e-9
    agrees = is_near or (not is_exact and 100 * low <= number.percent <= 100 * high)
    return CheckedNumber(
        result.method,
        number.metric,
        measured,
        low,
        high,
        number,
        "agrees" if agrees else "differs",
        remarks=[*differences.values(), *(f"also published: {other}" for other in others)],
        causes=() if agrees else tuple(checked.causes(number, result)),
    )


def _nearest(run: GuardedRun, method: str, numbers: Sequence[PublishedNumber]) -> PublishedNumber | None:
    """The number that has most in common with a run; of several the first."""

    def shared(number: PublishedNumber) -> tuple[bool, bool, bool]:
        return (number.dataset == run.benchmark, number.method == method, number.model == run.model)

    def closeness(number: PublishedNumber) -> tuple[Any, ...]:
        return (
            sum(shared(number)),
            *shared(number),
            bool(number.split),
            number.split == run.split,
            number.method == _NEAREST_METHOD.get(method),
            number.model.partition("/")[0] == run.model.partition("/")[0],
            number.model == _NEAREST_MODEL,
        )

    return max((number for number in numbers if any(shared(number))), key=closeness, default=None)


def _published_templates(benchmark: str, numbers: Sequence[PublishedNumber]) -> str:
    """The templates of clip-e in the published numbers of a data set."""
    of_dataset = (number for number in numbers if number.method == "clip-e" and number.dataset == benchmark)
    return next((number.templates for number in of_dataset if number.templates), "plain")


def _has_no_windows(
    model: str | Model, settings: ModelSettings, store: PersistentStore, weights: WeightsStore | None
) -> bool:
    """Whether a model is known to have no token grid, without loading it."""
    if not isinstance(model, str):
        return model.grid == 0
    return open_stages(store, model, settings, weights).models.grid_from_config() == 0


class _Observer(EvaluationObserver):
    """Takes what is compared from an evaluation, without the model that it holds."""

    checked: CheckedRun
    results: Sequence[MethodResult]
    remarks: Sequence[str]

    def __init__(self, published_as: str | None) -> None:
        self._published_as = published_as

    def finished(self, evaluation: Evaluation, records: Sequence[ResultRecord]) -> None:
        """Keep the results and what decides what they mean."""
        data = records[0].details.data
        skipped = f"without {counted(len(data.skipped), 'image', 'images')} that cannot be read" if data.skipped else ""
        run, is_part = evaluation.guarded, bool(evaluation.guarded.benchmark) and not evaluation.guarded.whole
        sample = "; ".join(filter(None, (data.sample, skipped)))
        self.results = evaluation.results
        warnings = result_warnings(evaluation.results, PublishedComparison(), evaluation.scored.skipped)
        self.remarks = [*(f"warning: {text}" for text in warnings), *evaluation.data_notes, *evaluation.run_notes]
        self.checked = CheckedRun(
            replace(run, model=published_name(self._published_as or run.model)),
            Counter(image.sample.label for image in evaluation.scored.images),
            sample or ("a part of the split, not drawn at random" if is_part else ""),
            evaluation.stages.models.facts.input_size,
            records[0].details.weights.dtype,
            self._published_as is not None or "@" in run.model,
        )

    def check(
        self, model: str, numbers: Sequence[PublishedNumber], results: EvaluationResults, remarks: Sequence[str]
    ) -> ModelCheck:
        """The verdicts.

        Args:
            model: as it was given.
            numbers: all that are published.
            results: of the evaluation.
            remarks: what must be said of methods that did not run.
        """
        verdicts = check_results(self.checked, self.results, numbers)
        every = [*_sample_remarks(self.checked), *remarks, *self.remarks]
        dataset = results[0].details.data.spec
        return ModelCheck(verdicts, model, dataset, self.checked, results.records, every, results.work)


def _sample_remarks(checked: CheckedRun) -> list[str]:
    """What must be said where the images are not all of a published split."""
    if not checked.dataset:
        return ["published numbers are of published data sets, which are named as in dtd:DIR; see `abs datasets ls`"]
    if not checked.sample:
        return []
    return [
        f"a sample: {checked.sample}. Its interval is wider than that of the whole split, and about one right number "
        "of 20 lies outside such an interval by chance; the whole split decides"
    ]


def _cells(number: CheckedNumber) -> list[str]:
    measured, low, high = (f"{100 * share:.2f}" for share in (number.measured, number.low, number.high))
    published = "" if number.number is None else f"{number.number.percent:.2f}"
    points = "" if number.difference is None else f"{100 * number.difference:+.2f}"
    metric = "top-1" if number.metric == "acc1" else "mean recall"
    return [number.method, metric, f"{measured} [{low}, {high}]", published, points, number.verdict]


def _notes(number: CheckedNumber) -> Iterator[str]:
    """Where the published number comes from, and what explains the verdict."""
    if number.number is None:
        nearest = "nothing near it is" if number.nearest is None else f"the nearest is {_described(number.nearest)}"
        yield f"{number.method}: none is published of this model, data set and method; {nearest}"
        return
    yield f"{number.method}: {_described(number.number)}"
    yield from (f"  {remark}" for remark in number.remarks)
    if number.causes:
        yield f"  {100 * (number.difference or 0):+.2f} points; likely causes, in this order:"
        yield from (f"  {place}. {cause}" for place, cause in enumerate(number.causes, 1))


def _described(number: PublishedNumber) -> str:
    """A published number with all that it is of."""
    metric = "" if number.metric == "acc1" else ", mean recall per class"
    images = f"{number.dataset} ({number.split or 'other images'})"
    return f"{number} of {number.method} with {number.model} on {images}{metric}"


def _counts(verdicts: Mapping[Verdict, int]) -> str:
    names: dict[Verdict, str] = {"agrees": "agree", "differs": "differ", "no published number": "not published"}
    return ", ".join(f"{verdicts.get(verdict, 0)} {name}" for verdict, name in names.items())
