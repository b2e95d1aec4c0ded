"""From an evaluation to result records: one for each method, with everything that can change its numbers."""

from __future__ import annotations

import base64
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from abs_classify.evaluation.job import Evaluation
from abs_classify.evaluation.records import FORMAT, FORMAT_VERSION, ResultRecord
from abs_classify.evaluation.results_folder import Run
from abs_classify.methods.plan import MethodPlan
from abs_core.canonical import digest

if TYPE_CHECKING:
    from abs_classify.evaluation.metrics import EvaluationResult
    from abs_classify.methods.table import Method

__all__ = ["base_method", "records_of", "split_model"]


_TASK = "zeroshot_classification"


# of the templates, which ship in English only; class names and descriptions may be in any language
_LANGUAGE = "en"


def records_of(evaluation: Evaluation, run: Run, command: Sequence[str]) -> list[ResultRecord]:
    """A record for each method of an evaluation, in the order of the table.

    Args:
        evaluation: what was found.
        run: what it is part of.
        command: the command line, without credentials.
    """
    shared = _shared(evaluation, run, command)
    base = base_method([result.method for result in evaluation.results])
    reference = next(result for result in evaluation.results if result.method == base)
    return [_record(evaluation, result, reference, shared) for result in evaluation.results]


def base_method(names: Sequence[str]) -> str:
    """The method that the others are compared with: clip, or the first if clip was not run."""
    return "clip" if "clip" in names else names[0]


def split_model(name: str) -> tuple[str, str]:
    """CLIP_benchmark's two names of a model, architecture and weights: ``ViT-B-16/openai`` is ViT-B-16 and openai."""
    head, at, file = name.partition("@")
    if ":" in head:  # hf-hub:ORG/REPO and local-dir:FOLDER are one name
        return name, ""
    architecture, _, tag = head.partition("/")
    return architecture, tag + at + file


def _shared(evaluation: Evaluation, run: Run, command: Sequence[str]) -> dict[str, Any]:
    """The details that all methods of an evaluation have in common."""
    subject, vocabulary = evaluation.cell.subject, evaluation.vocabulary
    dataset, scored = subject.dataset, evaluation.scored
    return {
        "run": {
            "id": run.id,
            "created": run.created,
            "command": list(command),
            "seconds": round(evaluation.seconds, 3),
            "stage_seconds": {name: round(spent, 3) for name, spent in evaluation.stage_seconds.items()},
        },
        "data": {
            "spec": dataset.name,
            "benchmark": dataset.benchmark,
            "split": dataset.split,
            "images": len(scored.photos),
            "images_digest": digest([photo.id for photo in scored.photos]),
            # labels of the data set, not classes of the bundle: bundles with other ids can be compared
            "labels_digest": digest([photo.item.label for photo in scored.photos]),
            "classes_with_images": len(set(scored.labels)),
            "selected": len(dataset.selected),
            "sample": subject.sample,
            "skipped": [{"name": one.name, "reason": one.reason} for one in scored.skipped],
        },
        "classes": {
            "source": vocabulary.source,
            "count": len(vocabulary.names),
            "digest": vocabulary.labels.digest,
        },
        "weights": _weights(evaluation),
        "warnings": evaluation.warnings(),
        "notes": evaluation.notes(),
        "versions": {"python": platform.python_version(), **evaluation.stages.models.versions},
    }


def _weights(evaluation: Evaluation) -> dict[str, Any]:
    from abs_classify.models.base import resolve_device

    models = evaluation.stages.models
    return {
        "name": evaluation.model,
        "tower": models.facts.model,
        "attention_source": models.attention,
        "attention": models.facts.attention,
        "grid": models.facts.grid,
        "crop_fraction": models.facts.crop_fraction,
        "context_length": models.facts.context_length,
        "dtype": models.dtype,
        "device": str(resolve_device(models.device)),
    }


def _record(
    evaluation: Evaluation, result: EvaluationResult, reference: EvaluationResult, shared: Mapping[str, Any]
) -> ResultRecord:
    from abs_classify.evaluation.metrics import compare

    architecture, weights = split_model(evaluation.model)
    dataset = evaluation.cell.subject.dataset
    baselines = [one.to_dict() for one in evaluation.baselines() if one.method == result.method]
    details = {
        **shared,
        **_method(evaluation.plan, result.method),
        "seeds": _seeds(evaluation, result.method),
        "top1": result.top1.to_dict(),
        "top5": None if result.top5 is None else result.top5.to_dict(),
        "chance": 1 / result.classes,
        "alarm": result.alarm,
        "difference": None if result is reference else compare(result, reference).to_dict(),
        "right": _bits(result),
        "baselines": baselines,
    }
    value = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "dataset": dataset.benchmark or dataset.name,
        "model": architecture,
        "pretrained": weights,
        "task": _TASK,
        "language": _LANGUAGE,
        "metrics": {
            "acc1": result.top1.value,
            "acc5": None if result.top5 is None else result.top5.value,
            "mean_per_class_recall": result.mean_recall,
        },
        "method": result.method,
        "bundle": "" if evaluation.cell.bundle is None else evaluation.vocabulary.source,
        "details": details,
    }
    return ResultRecord.model_validate(_unicode(value))


def _method(plan: MethodPlan, name: str) -> dict[str, Any]:
    method, table = next((method, table) for method, table in plan.methods.items() if method.name == name)
    return {
        "texts": {
            "source": method.texts.name,
            "count": len(table.texts),
            "digest": table.digest,
            "templates": plan.templates,
            "control": plan.control,
        },
        "method": {"views": _views_text(method), **_keys(method), "stream": method.stream},
    }


def _keys(method: Method) -> dict[str, Any]:
    # as JSON has them: a tuple is a list
    import json

    found: dict[str, Any] = json.loads(json.dumps(method.key()))
    return {"view_keys": found["views"], "matcher": found["matcher"]}


def _seeds(evaluation: Evaluation, method: str) -> dict[str, Any]:
    spread = evaluation.spread(method)
    first = evaluation.plan.seed
    return {
        "seeds": list(range(first, first + len(spread.values))),
        "acc1": list(spread.values),
        "mean": spread.mean,
        "deviation": spread.deviation,
        "least": min(spread.values),
        "most": max(spread.values),
    }


def _bits(result: EvaluationResult) -> str:
    import numpy as np

    return base64.b64encode(np.packbits(result.right).tobytes()).decode("ascii")


def _views_text(method: Method) -> str:
    """``50 crops + 50 windows``."""
    words = {"whole": "whole", "random": "random crops", "box": "crops", "window": "windows"}
    return " + ".join(words[v.kind] if v.kind == "whole" else f"{v.count} {words[v.kind]}" for v in method.views)


def _unicode(value: Any) -> Any:
    """JSON values with only valid Unicode; a byte of a file name that is none is written as ``\\udcff``."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_unicode(name): _unicode(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_unicode(item) for item in value]
    return value
