"""Result records: what a method reached on a data set, with everything that can change the number, as a file holds it.

The models are the boundary to files and the source of docs/results.schema.json. The keys at the top are those of
CLIP_benchmark, so that its tools read the file; everything else stands in ``details``.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import platform
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue

from abs_classify.encoding.samples import SkippedImage
from abs_classify.evaluation.metrics import MethodResult, PairedComparison, Proportion, ResultPart, SeedSpread
from abs_classify.evaluation.published import BaselineCheck
from abs_classify.sharding import SourceShare
from abs_core.canonical import digest
from abs_core.errors import ResultError
from abs_core.text import PRIVATE_NAMES, STARS, counted, without_secrets

if TYPE_CHECKING:
    from abs_classify.evaluation.job import Evaluation
    from abs_classify.methods.table import Method

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Details",
    "Metrics",
    "ResultRecord",
    "Run",
    "records_of",
    "redacted",
    "result_schema",
    "split_model",
]

FORMAT = "abs-result"

#: Raised when a key is removed, renamed or means something else; docs/results.md says what changed.
FORMAT_VERSION = 1
_TASK: Literal["zeroshot_classification"] = "zeroshot_classification"

# of the templates, which ship in English only; class names and descriptions may be in any language
_LANGUAGE = "en"
_DIGEST = r"^sha256:[0-9a-f]{64}$"


class Metrics(ResultPart):
    """Shares between 0 and 1. ``acc5`` is null for five classes or fewer; the recall is a mean over classes present."""

    acc1: float = Field(ge=0, le=1)
    acc5: float | None = Field(ge=0, le=1)
    mean_per_class_recall: float = Field(ge=0, le=1)


class RunFacts(ResultPart):
    """The run: name, UTC start, command line without credentials; wall seconds of this combination, also by stage."""

    id: str
    created: str
    command: list[str]
    seconds: float
    stage_seconds: dict[str, float]


class ShardRun(ResultPart):
    """One of the runs that a merged result was made of, with the device that the model ran on."""

    run: RunFacts
    share: SourceShare
    device: str


class RemarkFacts(ResultPart):
    """What was left out, guessed, scaled or cut: the kind, how often, and names of the first images or files."""

    kind: str
    count: int
    examples: list[str]


class DataFacts(ResultPart):
    """The images: spec, published name and split, how many, digests of their ids and labels, what was left out."""

    spec: str
    benchmark: str
    split: str
    images: int
    images_digest: str = Field(pattern=_DIGEST, description="of the ids of the images, in order")
    labels_digest: str | None = Field(
        None, pattern=_DIGEST, description="of the label of each image, in the same order; missing in older files"
    )
    classes_with_images: int
    selected: int = Field(description="classes among which the best was chosen after all were scored; 0 for all")
    sample: str = Field(description="how a part of the images was chosen; empty for all of them")
    skipped: list[SkippedImage]
    remarks: list[RemarkFacts] = Field(
        [],
        description="what was left out or guessed when the images were listed, and guessed or scaled when they were "
        "decoded, counted by kind; missing in older files",
    )


class ClassFacts(ResultPart):
    """The candidate classes: where they come from, how many, the digest of their ids and names."""

    source: str
    count: int
    digest: str = Field(pattern=_DIGEST)


class WeightFacts(ResultPart):
    """The models: name, digests over weights, architecture, preprocessing and dtype, and where they ran."""

    name: str
    tower: str
    attention_source: str
    attention: str
    grid: int
    crop_fraction: float | None
    context_length: int
    dtype: str
    device: str


class TextFacts(ResultPart):
    """The texts that were encoded: their source, number, and one digest over all of them with their classes."""

    source: str
    count: int
    digest: str = Field(pattern=_DIGEST)
    templates: str = Field(description="the template set of methods that use one")
    control: str | None = Field(description="how the descriptions were changed; null for not at all")


class BudgetFacts(ResultPart):
    """The views that images shared, so that labels depend on the other images, and what was measured to find them."""

    views: float = Field(description="how many views an image gets, on average over the images")
    seconds: float | None = Field(description="what the number was derived from; null where it was asked for")
    image_seconds: float | None = Field(description="as measured, for the first look at an image with all methods")
    view_seconds: float | None = Field(description="as measured, for each further view")


class AdaptiveFacts(ResultPart):
    """How many views an adaptive method looked at: rule and agreement; of how many; the mean, and how many fewer."""

    rule: str = Field(description="the stopping rule, or budget")
    agreement: float | None = Field(
        gt=0, lt=1, description="how often the label is that of all views, in the rule's sense; null with a budget"
    )
    budget: BudgetFacts | None = Field(None, description="null where every image got its own number of views")
    kinds: list[str] = Field(description="the kinds of views that came in rounds")
    views: int = Field(description="how many views of each of these kinds there are in all")
    mean_views: float = Field(description="how many of them were looked at, on average over the images")
    settled_early: float = Field(ge=0, le=1, description="the share of images that did not need all of them")


class MethodFacts(ResultPart):
    """The row of the method table: views in words and as keys, matcher, whether the order of images matters."""

    views: str
    view_keys: list[dict[str, JsonValue]]
    matcher: dict[str, JsonValue]
    stream: bool
    adaptive: AdaptiveFacts | None = Field(
        None, description="null for a method that looked at all views; missing in older files"
    )
    order: str | None = Field(
        None,
        description="how a stream method saw the images: shuffled by each seed, or dataset; null for other methods, "
        "and in older files, where it was dataset",
    )

    def with_views(self, mean_views: float, settled_early: float) -> MethodFacts:
        """The same, of images that looked at another number of views."""
        assert self.adaptive is not None  # or the number of views is fixed
        numbers = {"mean_views": round(mean_views, 3), "settled_early": round(settled_early, 6)}
        adaptive = self.adaptive.model_copy(update=numbers)
        views = [(str(key["kind"]), int(str(key.get("count", 1)))) for key in self.view_keys]
        return self.model_copy(update={"adaptive": adaptive, "views": _views_text(views, adaptive)})


class PredictionFile(ResultPart):
    """The file with the predictions of each image: its name, in the folder of the result; the digest of its bytes."""

    name: str
    digest: str = Field(pattern=_DIGEST)


class Details(ResultPart):
    """What CLIP_benchmark has no key for."""

    run: RunFacts
    share: SourceShare | None = Field(None, description="which images the result is of, where it is not of all")
    shards: list[ShardRun] = Field([], description="the runs that a merged result was made of, in order of shares")
    data: DataFacts
    classes: ClassFacts
    weights: WeightFacts
    texts: TextFacts
    method: MethodFacts
    seeds: SeedSpread
    top1: Proportion
    top5: Proportion | None
    chance: float
    alarm: str | None
    difference: PairedComparison | None = Field(description="this method minus the base method of the run")
    right: str = Field(description="base64 of one bit an image, in order, most significant first: whether it is right")
    predictions: PredictionFile | None = Field(
        None, description="missing in older files, and where no files of results were asked for"
    )
    baselines: list[BaselineCheck]
    warnings: list[str]
    notes: list[str]
    versions: dict[str, str]


class ResultRecord(ResultPart):
    """One method on one data set, with one model and one bundle. Its metrics are those of the first seed."""

    format: Literal["abs-result"]
    format_version: Literal[1]
    dataset: str
    model: str
    pretrained: str
    task: Literal["zeroshot_classification"]
    language: str
    metrics: Metrics
    method: str
    bundle: str = Field(description="a pinned reference; empty without descriptions")
    details: Details

    def __repr__(self) -> str:
        images = counted(self.details.data.images, "image", "images")
        return f"<ResultRecord: {self.method!r} on {self.dataset!r}, {images}, top-1 {self.metrics.acc1:.4f}>"

    def __str__(self) -> str:
        return repr(self)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Bool [n]: which images are right, in order.

        Raises:
            ResultError: the file's bits are damaged.
        """
        images = self.details.data.images
        try:
            packed = np.frombuffer(base64.b64decode(self.details.right, validate=True), dtype=np.uint8)
        except ValueError as error:
            raise self._damaged() from error
        if packed.size != (images + 7) // 8:
            raise self._damaged()
        return np.unpackbits(packed, count=images).astype(bool)

    def label(self, name: str) -> str:
        """A short name of its ``run``, ``model`` or ``bundle``, to tell results apart in a table."""
        if name == "model":
            return self.details.weights.name
        if name == "run":
            return self.details.run.id
        reference, _, pinned = self.bundle.partition("#")
        # enough to tell apart two bundles of one name and version; the whole digest stands above the table
        return f"{reference}#{pinned.removeprefix('sha256:')[:6]}" if reference else "none"

    @property
    def texts(self) -> str:
        """What was encoded beside the classes, for a table; a template where there were no sentences to take."""
        source = self.details.texts.source
        return "template" if not self.bundle and source in ("sentences", "templated-sentences") else source

    def labels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Several of its labels."""
        return tuple(map(self.label, names))

    def with_predictions(self, file: PredictionFile) -> ResultRecord:
        """The same result, with the file that its predictions are in."""
        return self.model_copy(update={"details": self.details.model_copy(update={"predictions": file})})

    def may_share_labels(self, other: ResultRecord) -> bool:
        """Whether no label is known to differ; files written before labels had a digest hold none."""
        digests = {self.details.data.labels_digest, other.details.data.labels_digest}
        return len(digests - {None}) < 2

    def _damaged(self) -> ResultError:
        return ResultError(
            f"the result of {self.method!r} of run {self.details.run.id} has damaged bits",
            remedy="Run the evaluation again; the cache makes that quick",
        )


# how the schema has named these parts since version 1
_SCHEMA_NAMES = {
    "Proportion": "Share",
    "PairedComparison": "Comparison",
    "SeedSpread": "SeedFacts",
    "BaselineCheck": "BaselineFacts",
}


def result_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a result file."""
    text = json.dumps(ResultRecord.model_json_schema())
    for name, published in _SCHEMA_NAMES.items():
        text = text.replace(f'"{name}"', f'"{published}"').replace(f'/{name}"', f'/{published}"')
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **json.loads(text),
        "title": f"A result file of abs eval, format version {FORMAT_VERSION}",
    }


@dataclass(frozen=True)
class Run:
    """One run of `abs eval`, or one call of ``evaluate``.

    Args:
        id: the name of its folder: UTC time to the microsecond, so that runs sort in the order in which they began,
            and eight hex digits that tell apart runs of the same microsecond.
        created: the same time, as ISO 8601 to the second.
        command: the command line without credentials; empty for a run without one.
    """

    id: str
    created: str
    command: Sequence[str] = ()

    @classmethod
    def now(cls, command: Sequence[str] = ()) -> Run:
        """A run that starts now."""
        time = datetime.now(UTC)
        run_id = f"{time:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        return cls(run_id, f"{time:%Y-%m-%dT%H:%M:%SZ}", redacted(command))


def records_of(evaluation: Evaluation, run: Run) -> list[ResultRecord]:
    """A record for each method of an evaluation, in the order of the table.

    Each is compared with clip, or with the first method if clip was not run.

    Args:
        evaluation: one data set, model and label space.
        run: what it is part of.
    """
    results = evaluation.results
    base = next((result for result in results if result.method == "clip"), results[0])
    shared = _shared_details(evaluation, run)
    return [_record(evaluation, result, base, shared) for result in results]


def split_model(name: str) -> tuple[str, str]:
    """CLIP_benchmark's two names of a model, architecture and weights: ``ViT-B-16/openai`` is ViT-B-16 and openai."""
    model, separator, file = name.partition("@")
    if ":" in model:  # hf-hub:ORG/REPO and local-dir:FOLDER are one name
        return name, ""
    architecture, _, tag = model.partition("/")
    return architecture, tag + separator + file


def _shared_details(evaluation: Evaluation, run: Run) -> dict[str, Any]:
    """The details that all methods of an evaluation have in common."""
    label_space = evaluation.job.label_space
    stage_seconds = {name: round(seconds, 3) for name, seconds in evaluation.stage_seconds.items()}
    return {
        "run": RunFacts(
            id=run.id,
            created=run.created,
            command=list(run.command),
            seconds=round(evaluation.seconds, 3),
            stage_seconds=stage_seconds,
        ),
        "share": evaluation.job.split.share,
        "data": _data_facts(evaluation),
        "classes": ClassFacts(
            source=label_space.source, count=len(label_space.names), digest=label_space.labels.digest
        ),
        "weights": _weight_facts(evaluation),
        "warnings": evaluation.warnings(),
        "notes": evaluation.notes(),
        "versions": {"python": platform.python_version(), **evaluation.stages.models.versions},
    }


def _data_facts(evaluation: Evaluation) -> DataFacts:
    split, scored = evaluation.job.split, evaluation.scored
    dataset = split.dataset
    return DataFacts(
        spec=dataset.name,
        benchmark=dataset.benchmark,
        split=dataset.split,
        images=len(scored.images),
        images_digest=digest([image.id for image in scored.images]),
        # labels of the data set, not classes of the bundle: bundles with other ids can be compared
        labels_digest=digest([image.sample.label for image in scored.images]),
        classes_with_images=len(set(scored.labels)),
        selected=len(dataset.selected),
        sample=split.sampling,
        skipped=scored.skipped,
        remarks=[RemarkFacts(**remark.as_json()) for remark in evaluation.remarks],
    )


def _weight_facts(evaluation: Evaluation) -> WeightFacts:
    from abs_classify.models.base import resolve_device

    models = evaluation.stages.models
    return WeightFacts(
        name=evaluation.model,
        tower=models.facts.model,
        attention_source=models.attention_label,
        attention=models.facts.attention,
        grid=models.facts.grid,
        crop_fraction=models.facts.crop_fraction,
        context_length=models.facts.context_length,
        dtype=models.dtype,
        device=str(resolve_device(models.device)),
    )


def _record(evaluation: Evaluation, result: MethodResult, base: MethodResult, shared: dict[str, Any]) -> ResultRecord:
    architecture, weights = split_model(evaluation.model)
    dataset, label_space = evaluation.job.split.dataset, evaluation.job.label_space
    method, texts = _method_facts(evaluation, result.method)
    details = Details(
        **shared,
        texts=texts,
        method=method,
        seeds=evaluation.spread(result.method),
        top1=result.top1,
        top5=result.top5,
        chance=1 / result.classes,
        alarm=result.alarm,
        difference=None if result is base else result.minus(base),
        right=base64.b64encode(np.packbits(result.right).tobytes()).decode("ascii"),
        baselines=[check for check in evaluation.baselines() if check.method == result.method],
    )
    return ResultRecord(
        format="abs-result",
        format_version=1,
        dataset=dataset.benchmark or dataset.name,
        model=architecture,
        pretrained=weights,
        task=_TASK,
        language=_LANGUAGE,
        metrics=Metrics(
            acc1=result.top1.value,
            acc5=None if result.top5 is None else result.top5.value,
            mean_per_class_recall=result.mean_recall,
        ),
        method=result.method,
        bundle="" if label_space.descriptions is None else label_space.source,
        details=details,
    )


def _method_facts(evaluation: Evaluation, name: str) -> tuple[MethodFacts, TextFacts]:
    plan = evaluation.plan
    method, texts = next((method, texts) for method, texts in plan.methods.items() if method.name == name)
    # as JSON has them: a tuple is a list
    key = json.loads(json.dumps(method.key()))
    adaptive = _adaptive_facts(evaluation, method)
    facts = MethodFacts(
        views=_views_text([(view.kind, view.count) for view in method.views], adaptive),
        view_keys=key["views"],
        matcher=key["matcher"],
        stream=method.stream,
        adaptive=adaptive,
        order=plan.stream_order if method.stream else None,
    )
    return facts, TextFacts(
        source=method.texts.name,
        count=len(texts.texts),
        digest=texts.digest,
        templates=plan.templates,
        control=plan.control,
    )


def _adaptive_facts(evaluation: Evaluation, method: Method) -> AdaptiveFacts | None:
    sources, adaptive = evaluation.adaptive_views(method), evaluation.plan.adaptive
    if not sources or adaptive is None:
        return None
    looked, total = evaluation.scored.methods[method.name].looked, sources[0].count
    budget = evaluation.budget
    return AdaptiveFacts(
        rule=adaptive.stopping if budget is None else "budget",
        agreement=adaptive.agreement if budget is None else None,
        budget=None if budget is None else BudgetFacts(**dataclasses.asdict(budget)),
        kinds=[view.kind for view in sources],
        views=total,
        mean_views=round(float(looked.mean()), 3),
        settled_early=round(float((looked < total).mean()), 6),
    )


def _views_text(views: Sequence[tuple[str, int]], adaptive: AdaptiveFacts | None) -> str:
    """``50 crops + 50 windows``, ``7.9 of 50 crops + 50 windows``, or ``7.9 of 50 crops (budget) + 50 windows``."""
    words = {
        **{"whole": "whole", "random": "random crops", "resized": "random resized crops"},
        **{"box": "crops", "window": "windows"},
    }
    parts = []
    for kind, count in views:
        number, shared = "" if kind == "whole" else f"{count} ", ""
        if adaptive is not None and kind in adaptive.kinds:
            number = f"{adaptive.mean_views:.1f} of {number}"
            shared = "" if adaptive.budget is None else " (budget)"
        parts.append(f"{number}{words[kind]}{shared}")
    return " + ".join(parts)


_OPTION = re.compile(rf"--{PRIVATE_NAMES}", re.IGNORECASE)


def redacted(arguments: Sequence[str]) -> list[str]:
    """The arguments without user names and passwords in addresses, without keys in queries or options."""
    shown: list[str] = []
    hide_next = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide_next:
            shown.append(STARS)
            hide_next = False
        elif _OPTION.fullmatch(name):
            shown.append(name + equals + (STARS if equals else ""))
            hide_next = not equals
        else:
            shown.append(without_secrets(argument))
    return shown
