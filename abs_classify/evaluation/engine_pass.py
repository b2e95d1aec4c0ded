"""What an engine does for a pass over a split, before the pass makes results from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abs_classify.encoding.samples import OnError, SkippedImage, batched, files_only, stopping_error
from abs_classify.encoding.stages import SHARD
from abs_classify.engines.base import EncodingTask, require_no_budget
from abs_core.progress import Advance

if TYPE_CHECKING:
    from abs_classify.encoding.stages import Stages
    from abs_classify.engines.base import Engine
    from abs_classify.evaluation.job import EvaluationSplit
    from abs_classify.methods.table import MethodPlan

__all__ = ["encode_split"]


def encode_split(
    split: EvaluationSplit, engine: Engine, stages: Stages, plan: MethodPlan, on_error: OnError, advance: Advance
) -> None:
    """Have an engine encode the images of a split, before they are identified here.

    Args:
        split: takes in which images must not be read.
        engine: has them encoded.
        stages: of the pass.
        plan: the methods of the pass.
        on_error: whether such an image stops the run.
        advance: is told how far the workers are.

    Raises:
        ImageError: an image must not be read and ``on_error`` is "stop".
        UsageError: a budget of views, or as ``Engine.encode``.
        EngineError: the workers cannot do their part.
    """
    require_no_budget(plan.adaptive)
    cheap_windows = stages.models.facts.cheap_windows
    task = EncodingTask.of(plan.methods, (), plan.adaptive, split.truncated, cheap_windows=cheap_windows)
    samples = [sample for sample in split.samples if sample not in split.failed] if split.failed else split.samples
    encoded = 0
    for group, failures in engine.encode(batched(samples, SHARD), files_only, stages, task):
        for place, error in failures.items():
            if on_error == "stop":
                raise stopping_error(error) from error
            split.failed[group[place]] = SkippedImage.of(group[place].name, error)
        encoded += len(group)
        advance(0, f"workers have done {encoded} of {len(samples)} images")
