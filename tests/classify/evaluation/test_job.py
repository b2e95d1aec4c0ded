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
from abs_classify.methods.table import plan_methods
from abs_core.descriptions import LabelSpace
from abs_core.labels import LabelSet, shipped_label_set

NO_STAGES: Any = SimpleNamespace(models=SimpleNamespace(notes=[]))  # nothing is computed


def result(right: int, images: int, method: str = "clip") -> MethodResult:
    ranks = np.where(np.arange(images) < right, 1, 2)
    return evaluate_ranks(method, ranks, np.arange(images) % 47, 47)


def test_the_guard_speaks_where_a_whole_published_split_was_run() -> None:
    labels = shipped_label_set("dtd")
    classes = labels.classes
    items = tuple(Sample(Path(f"{at}.jpg"), classes[at % 47].id) for at in range(1880))
    space = LabelSpace(labels, None, "labels")
    plan = plan_methods(["clip", "clip-e"], space, None, "dtd", None, 0)

    def judge(
        right: int, split: str = "test1", count: int = 1880, model: str = "ViT-B-32-quickgelu/openai"
    ) -> Evaluation:
        chosen = EvaluationSplit(Dataset("dtd:./dtd", classes, items, "dtd", split), items[:count])
        job = EvaluationJob(chosen, space, {}, [plan])
        results = [result(right, count), result(right, count, "clip-e"), result(right, count, "abs")]
        return Evaluation(job, model, NO_STAGES, ScoredImages([], [], {}), results, [], 0.0, {})

    near, far = judge(820), judge(700)
    assert [(check.method, round(100 * check.published, 2), check.off) for check in near.baselines()] == [
        ("clip", 42.93, False),
        ("clip-e", 44.36, False),
    ]
    assert near.warnings() == []
    assert sum("published" in line for line in near.notes()) == 2
    assert [line.partition(":")[0] for line in far.warnings()] == ["clip", "clip-e"]
    skipped = judge(700)
    skipped.scored.skipped.append(SkippedImage("x.jpg", "no image"))
    for silent in (judge(700, split="test2"), judge(700, count=1879), judge(700, model="embedded"), skipped):
        assert silent.baselines() == []
        assert silent.warnings() == [line for line in silent.warnings() if "skipped" in line]
        assert sum("not compared with published numbers" in line for line in silent.notes()) == 1


def test_the_classes_that_can_win_decide_whether_a_number_is_compared() -> None:
    all_classes, subset = shipped_label_set("imagenet"), shipped_label_set("imagenet-r")
    images = tuple(Sample(Path(f"{at}.jpg"), subset.ids[at % 200]) for at in range(30_000))
    positions = [all_classes.ids.index(class_id) for class_id in subset.ids]

    def judge(labels: LabelSet, selected: list[int]) -> Evaluation:
        space = LabelSpace(labels, None, "labels")
        split = EvaluationSplit(Dataset("imagenet-r:./r", labels.classes, images, "imagenet-r", "test"), images)
        job = EvaluationJob(split, space, {}, [plan_methods(["clip"], space, None, "plain", None, 0)])
        ranks = np.where(np.arange(30_000) < 9000, 1, 2)
        results = [evaluate_ranks("clip", ranks, np.arange(30_000) % 200, 200)]
        scored = ScoredImages([], [], {}, selected=selected)
        return Evaluation(job, "ViT-B-16-quickgelu/openai", NO_STAGES, scored, results, [], 0.0, {})

    assert [check.off for check in judge(subset, []).baselines()] == [True]
    assert [check.off for check in judge(all_classes, positions).baselines()] == [True]
    of_all = judge(all_classes, [])
    assert (of_all.baselines(), of_all.warnings()) == ([], [])
    reason = "clip: 73.96 (Li et al. 2024 (WCA)) is published with other class names"
    assert f"not compared with published numbers: {reason}" in of_all.notes()
