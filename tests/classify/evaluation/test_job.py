"""An evaluation: which published numbers stand beside it, and when it says nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from abs_classify.datasets import Dataset, Sample
from abs_classify.encoding.ranking import ScoredImages
from abs_classify.encoding.samples import SkippedImage
from abs_classify.evaluation.job import Evaluation, EvaluationJob, EvaluationSplit
from abs_classify.evaluation.metrics import MethodResult, evaluate_ranks
from abs_classify.methods.table import MethodPlan
from abs_core.descriptions import LabelSpace
from abs_core.labels import ClassLabel, LabelSet, shipped_label_set


def result(right: int, images: int, method: str = "clip") -> MethodResult:
    ranks = np.where(np.arange(images) < right, 1, 2)
    return evaluate_ranks(method, ranks, np.arange(images) % 47, 47)


def test_the_guard_speaks_where_a_whole_published_split_was_run() -> None:
    labels = shipped_label_set("dtd")
    classes = labels.classes
    items = tuple(Sample(Path(f"{at}.jpg"), classes[at % 47].id) for at in range(1880))

    def judge(
        right: int, split: str = "test1", count: int = 1880, model: str = "ViT-B-32-quickgelu/openai"
    ) -> Evaluation:
        chosen = EvaluationSplit(Dataset("dtd:./dtd", classes, items, "dtd", split), items[:count])
        job = EvaluationJob(chosen, LabelSpace(labels, None, "labels"), {}, [MethodPlan({}, None, "dtd", 0)])
        results = [result(right, count), result(right, count, "clip-e"), result(right, count, "abs")]
        stages: Any = SimpleNamespace(models=SimpleNamespace(notes=[]))  # nothing is computed
        return Evaluation(job, model, stages, ScoredImages([], [], {}), results, [], 0.0, {})

    near, far = judge(820), judge(700)
    assert [(check.method, round(100 * check.published, 2), check.off) for check in near.baselines()] == [
        ("clip", 42.93, False),
        ("clip-e", 44.36, False),
    ]
    assert near.warnings() == []
    assert sum("published" in line for line in near.notes()) == 2
    assert [line.partition(":")[0] for line in far.warnings()] == ["clip", "clip-e"]
    for silent in (judge(700, split="test2"), judge(700, count=1879), judge(700, model="embedded")):
        assert silent.baselines() == []
    skipped = judge(700)
    skipped.scored.skipped.append(SkippedImage("x.jpg", "no image"))
    assert skipped.baselines() == []


def test_a_number_that_was_made_with_other_class_names_is_named_and_not_compared() -> None:
    shipped = shipped_label_set("places365")
    same, others = shipped.classes[:22], shipped.classes[22:]
    plain = LabelSet("plain", (*(ClassLabel(label.id, same[0].name) for label in same), *others))
    assert len(set(plain.names.values())) == 344
    images = tuple(Sample(Path(f"{at}.jpg"), shipped.ids[at % 365]) for at in range(36_500))

    def judge(labels: LabelSet) -> Evaluation:
        split = EvaluationSplit(Dataset("places365:./p", shipped.classes, images, "places365", "val"), images)
        job = EvaluationJob(split, LabelSpace(labels, None, "labels"), {}, [MethodPlan({}, None, "places", 0)])
        stages: Any = SimpleNamespace(models=SimpleNamespace(notes=[]))  # nothing is computed
        ranks = np.where(np.arange(36_500) < 9000, 1, 2)
        results = [evaluate_ranks("clip", ranks, np.arange(36_500) % 365, 365)]
        return Evaluation(job, "ViT-B-32-quickgelu/openai", stages, ScoredImages([], [], {}), results, [], 0.0, {})

    with_all = judge(shipped)
    assert with_all.baselines() == []
    assert with_all.warnings() == []
    note = "clip: 38.51 is published (Li et al. 2024 (WCA), row CLIP) with 344 different class names for 365 classes"
    assert [line for line in with_all.notes() if "published" in line] == [
        f"{note}; here they are 365, so the two numbers are not compared"
    ]
    assert [check.off for check in judge(plain).baselines()] == [True]
