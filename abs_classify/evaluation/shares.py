"""What the result of one share of the images keeps besides its record, so that the record of all images can be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from abs_classify.encoding.ranking import image_remarks
from abs_classify.evaluation.image_notes import ImageSizes
from abs_classify.evaluation.metrics import ResultPart
from abs_classify.evaluation.records import RemarkFacts
from abs_core.errors import ResultError, UsageError
from abs_core.remarks import Remark

if TYPE_CHECKING:
    from abs_classify.evaluation.job import Evaluation
    from abs_classify.methods.table import MethodPlan

__all__ = ["LookedViews", "ShareParts", "refuse_unshareable", "remarks_of", "share_parts"]


class LookedViews(NamedTuple):
    """How many views an adaptive method looked at: in all, and for how many images fewer than there are."""

    views: int
    settled_early: int


class ShareParts(ResultPart):
    """What of a share adds up, and what is the same for all of them.

    Attributes:
        labels: the label of the data set by the position of its class, of classes with images anywhere.
        competing: ids of the classes of the data set that an image can get.
        selected: positions of the only classes that can win; empty for all.
        voting: methods that give most classes no score.
        fixed_notes: as of ``EvaluationSplit``.
        plan_notes, run_notes: as of ``Evaluation``.
        listed_remarks: what was left out or guessed when the images were listed.
        image_remarks: what was guessed or scaled when those of the share were decoded.
        unreadable: how many of the skipped images, which come first, had no bytes to decode.
        sizes: of the images of the share.
        looked: of each adaptive method.
    """

    labels: dict[int, str]
    competing: list[str]
    selected: list[int]
    voting: list[str]
    fixed_notes: list[str]
    plan_notes: list[str]
    run_notes: list[str]
    listed_remarks: list[RemarkFacts]
    image_remarks: list[RemarkFacts]
    unreadable: int
    sizes: ImageSizes
    looked: dict[str, LookedViews]

    @classmethod
    def read(cls, value: Mapping[str, Any] | None, place: str) -> ShareParts:
        """The parts that a file of predictions holds.

        Raises:
            ResultError: it holds none, or they are damaged.
        """
        try:
            return cls.model_validate(value, strict=False)
        except ValidationError as error:
            raise ResultError(
                f"{place!r} does not hold what a share of a result needs to be merged",
                remedy="Run the share again; the cache makes that quick",
            ) from error


def remarks_of(facts: Sequence[RemarkFacts]) -> list[Remark]:
    """The remarks that a file holds."""
    return [Remark(remark.kind, remark.count, tuple(remark.examples)) for remark in facts]


def share_parts(evaluation: Evaluation) -> ShareParts:
    """What an evaluation of a share keeps besides its records."""
    scored, job = evaluation.scored, evaluation.job
    names = job.label_space.names
    looked = {}
    for method in evaluation.plan.methods:
        if sources := evaluation.adaptive_views(method):
            views = scored.methods[method.name].looked
            looked[method.name] = LookedViews(int(views.sum()), int((views < sources[0].count).sum()))
    return ShareParts(
        labels={position: label for label, position in job.positions.items()},
        competing=job.split.competing(names),
        selected=list(scored.selected),
        voting=[method.name for method in evaluation.plan.methods if method.votes],
        fixed_notes=job.split.fixed_notes,
        plan_notes=evaluation.plan_notes,
        run_notes=evaluation.run_notes,
        listed_remarks=[RemarkFacts(**remark.as_json()) for remark in job.split.dataset.remarks],
        image_remarks=[RemarkFacts(**remark.as_json()) for remark in image_remarks(scored.images, scored.facts)],
        unreadable=len(job.split.unreadable),
        sizes=evaluation.image_sizes,
        looked=looked,
    )


def refuse_unshareable(plans: Sequence[MethodPlan]) -> None:
    """Refuse to evaluate shares of what depends on more than one image.

    Args:
        plans: of a job, one for each seed.

    Raises:
        UsageError: a method that learns from a stream of images, or views that images share. What each share gives
            would be another result than that of all images, under the same name.
    """
    streaming = [method.name for method in plans[0].methods if method.stream]
    if streaming:
        raise UsageError(
            f"{', '.join(streaming)} cannot run on a share of the images: the label of an image depends on those "
            "before it in the stream, so N shares are N short streams and no parts of the long one",
            remedy="Run the shares without, with the same cache, then all images with these methods and without "
            "--shard: their features are there",
        )
    if plans[0].adaptive is not None and plans[0].adaptive.has_budget:
        raise UsageError(
            "a budget of views cannot be spent on a share of the images: which images get more views depends on all",
            remedy="Leave out the budget, or --shard",
        )
