"""Result records for tests that need no run: what tables and pages show of a few methods."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import numpy as np

from abs_classify.evaluation.metrics import MethodResult, SeedSpread
from abs_classify.evaluation.records import Details, Metrics, ResultRecord, Run
from abs_core.canonical import digest

_ANY = digest([])
_A_RUN = Run("a run", "")


def make_records(
    results: Sequence[MethodResult],
    views: Mapping[str, str] | None = None,
    texts: Mapping[str, str] | None = None,
    run: Run = _A_RUN,
) -> list[ResultRecord]:
    """Records of methods on the same images, each compared with clip if that is among them.

    Args:
        results: what the methods reached.
        views, texts: method to the words that a table shows.
        run: what they are part of.
    """
    base = next((result for result in results if result.method == "clip"), None)
    words = [((views or {}).get(result.method, ""), (texts or {}).get(result.method, "")) for result in results]
    return [_record(result, base, *pair, run) for result, pair in zip(results, words, strict=True)]


def _record(result: MethodResult, base: MethodResult | None, views: str, texts: str, run: Run) -> ResultRecord:
    details = {
        "run": {"id": run.id, "created": run.created, "command": [], "seconds": 0.0, "stage_seconds": {}},
        "data": {
            "spec": "images",
            "benchmark": "",
            "split": "",
            "images": result.top1.trials,
            "images_digest": _ANY,
            "labels_digest": _ANY,
            "classes_with_images": result.classes,
            "selected": 0,
            "sample": "",
            "skipped": [],
        },
        "classes": {"source": "labels", "count": result.classes, "digest": _ANY},
        "weights": {
            "name": "a model",
            "tower": _ANY,
            "attention_source": "none",
            "attention": _ANY,
            "grid": 0,
            "crop_fraction": None,
            "context_length": 77,
            "dtype": "float32",
            "device": "cpu",
        },
        "texts": {
            "source": texts,
            "count": 1,
            "digest": _ANY,
            "templates": "plain",
            "control": None,
        },
        "method": {"views": views, "view_keys": [], "matcher": {}, "stream": False},
        "seeds": SeedSpread.of([result.top1.value]),
        "top1": result.top1,
        "top5": result.top5,
        "chance": 1 / result.classes,
        "alarm": result.alarm,
        "difference": None if base is None or result is base else result.minus(base),
        "right": base64.b64encode(np.packbits(result.right).tobytes()).decode("ascii"),
        "baselines": [],
        "warnings": [],
        "notes": [],
        "versions": {},
    }
    return ResultRecord(
        format="abs-result",
        format_version=1,
        dataset="images",
        model="a model",
        pretrained="",
        task="zeroshot_classification",
        language="en",
        metrics=Metrics(
            acc1=result.top1.value,
            acc5=None if result.top5 is None else result.top5.value,
            mean_per_class_recall=result.mean_recall,
        ),
        method=result.method,
        bundle="",
        details=Details.model_validate(details),
    )
