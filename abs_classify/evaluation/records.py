"""A result file as pydantic models: the boundary, and the source of docs/results.schema.json. Pure.

The keys at the top are those of CLIP_benchmark, so that its tools read the file; everything else stands in ``details``.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

__all__ = ["FORMAT", "FORMAT_VERSION", "Comparison", "Details", "Metrics", "ResultRecord", "Share", "result_schema"]


FORMAT = "abs-result"


#: Raised when a key is removed, renamed or means something else; docs/results.md says what changed.
FORMAT_VERSION = 1


_DIGEST = r"^sha256:[0-9a-f]{64}$"


class _ResultModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Metrics(_ResultModel):
    """Shares between 0 and 1. ``acc5`` is null for five classes or fewer; the recall is a mean over classes present."""

    acc1: float = Field(ge=0, le=1)
    acc5: float | None = Field(ge=0, le=1)
    mean_per_class_recall: float = Field(ge=0, le=1)


class Share(_ResultModel):
    """A share with its 95 % Wilson interval."""

    successes: int = Field(ge=0)
    trials: int = Field(ge=1)
    value: float
    low: float
    high: float

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        if self.successes > self.trials:
            raise ValueError(f"{self.successes} successes in {self.trials} trials are no share")
        return self


class Comparison(_ResultModel):
    """First minus second on the same images: counts, 95 % Newcombe interval, exact McNemar p."""

    first: str
    second: str
    both: int
    first_only: int
    second_only: int
    neither: int
    difference: float
    low: float
    high: float
    p_value: float
    conclusive: bool


class RunFacts(_ResultModel):
    """The run: name, UTC start, command line without credentials; wall seconds of this combination, also by stage."""

    id: str
    created: str
    command: list[str]
    seconds: float
    stage_seconds: dict[str, float]


class SkippedImage(_ResultModel):
    """An image that could not be used, and why."""

    name: str
    reason: str


class DataFacts(_ResultModel):
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


class ClassFacts(_ResultModel):
    """The candidate classes: where they come from, how many, the digest of their ids and names."""

    source: str
    count: int
    digest: str = Field(pattern=_DIGEST)


class WeightFacts(_ResultModel):
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


class TextFacts(_ResultModel):
    """The texts that were encoded: their source, number, and one digest over all of them with their classes."""

    source: str
    count: int
    digest: str = Field(pattern=_DIGEST)
    templates: str = Field(description="the template set of methods that use one")
    control: str | None = Field(description="how the descriptions were changed; null for not at all")


class MethodFacts(_ResultModel):
    """The row of the method table: views in words and as keys, matcher, whether the order of images matters."""

    views: str
    view_keys: list[dict[str, JsonValue]]
    matcher: dict[str, JsonValue]
    stream: bool


class SeedFacts(_ResultModel):
    """Top-1 accuracies of several draws of the views; one seed where the method draws nothing."""

    seeds: list[int] = Field(min_length=1)
    acc1: list[float] = Field(min_length=1)
    mean: float
    deviation: float
    least: float
    most: float


class BaselineFacts(_ResultModel):
    """A published number of plain CLIP beside the measured one."""

    method: str
    metric: Literal["acc1", "mean_per_class_recall"]
    measured: float
    published: float
    difference: float
    off: bool
    source: str


class Details(_ResultModel):
    """What CLIP_benchmark has no key for."""

    run: RunFacts
    data: DataFacts
    classes: ClassFacts
    weights: WeightFacts
    texts: TextFacts
    method: MethodFacts
    seeds: SeedFacts
    top1: Share
    top5: Share | None
    chance: float
    alarm: str | None
    difference: Comparison | None = Field(description="this method minus the base method of the run")
    right: str = Field(description="base64 of one bit an image, in order, most significant first: whether it is right")
    baselines: list[BaselineFacts]
    warnings: list[str]
    notes: list[str]
    versions: dict[str, str]


class ResultRecord(_ResultModel):
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


def result_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a result file."""
    schema = ResultRecord.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": f"A result file of abs eval, format version {FORMAT_VERSION}",
    }
