"""Measured beside published numbers: verdicts, causes, and the runs that a check makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import Bench, described

from abs_classify import ModelCheck, check_model
from abs_classify.datasets import open_dataset
from abs_classify.evaluation.metrics import evaluate_ranks
from abs_classify.evaluation.model_check import CheckedNumber, CheckedRun, check_results
from abs_classify.evaluation.published import (
    TOLERANCE,
    GuardedRun,
    PublishedMetric,
    PublishedNumber,
    class_names_digest,
)
from abs_classify.evaluation.significance import wilson
from abs_classify.methods.table import plan_methods
from abs_core.descriptions import LabelSpace
from abs_core.errors import UnknownNameError, UsageError
from abs_core.labels import shipped_label_set

MODEL = "tiny/weights"
IMAGES = 1880


def number_of(percent: float, method: str = "clip", **changes: Any) -> PublishedNumber:
    classes = class_names_digest(shipped_label_set("dtd").names.values())
    templates = {"clip": "single", "clip-e": "dtd"}.get(method, "")
    number = PublishedNumber("dtd", "test1", method, MODEL, templates, "acc1", percent, "somebody", classes)
    return replace(number, **changes)


def checked_run(templates: str = "dtd", **changes: Any) -> CheckedRun:
    """A run on DTD with the texts of clip and clip-e."""
    labels = shipped_label_set("dtd")
    plan = plan_methods(["clip", "clip-e"], LabelSpace.of_labels(labels), None, templates, None, 0)
    texts, names = {method.name: texts.digest for method, texts in plan.methods.items()}, labels.names
    sample = changes.pop("sample", "")
    guarded = GuardedRun("dtd", "test1", not sample, MODEL, names, list(names.values()), texts)
    guarded = replace(guarded, **{name: changes.pop(name) for name in ("benchmark", "model") if name in changes})
    run = CheckedRun(guarded, dict.fromkeys(labels.ids, 40), sample, 224, "float32", named_by_user=False)
    return replace(run, **changes)


def verdict_on(right: int, *numbers: PublishedNumber, method: str = "clip", **changes: Any) -> list[CheckedNumber]:
    ranks, labels = np.where(np.arange(IMAGES) < right, 1, 2), np.arange(IMAGES) % 47
    return check_results(checked_run(**changes), [evaluate_ranks(method, ranks, labels, 47)], numbers)


def causes_of(number: CheckedNumber) -> list[str]:
    return [cause.partition(":")[0] for cause in number.causes]


@pytest.mark.parametrize(("right", "verdict"), [(799, "agrees"), (780, "differs"), (818, "agrees"), (827, "differs")])
def test_the_same_images_and_texts_agree_within_the_tolerance_and_not_within_the_interval(
    right: int, verdict: str
) -> None:
    # 42.93 % of 1,880 images are 807.1; one point is 18.8 images, and the interval is more than two points wide
    (row,) = verdict_on(right, number_of(42.93))
    assert row.verdict == verdict
    assert 100 * row.low < 42.93 < 100 * row.high
    assert (row.low, row.high) == wilson(right, IMAGES)
    assert row.difference == pytest.approx(right / IMAGES - 0.4293)
    assert causes_of(row) == ([] if verdict == "agrees" else ["resolution and preprocessing", "split"])


def test_exactly_the_tolerance_is_no_more_than_it() -> None:
    (row,) = verdict_on(940, number_of(50.0 + TOLERANCE))
    assert row.verdict == "agrees"


def test_of_other_images_or_texts_the_interval_decides() -> None:
    sample = "a stratified sample of 1880 images"
    for near, far in (
        ({"sample": sample}, {"sample": sample}),
        ({"templates": "plain", "method": "clip-e"}, {"templates": "plain", "method": "clip-e"}),
    ):
        method = near.get("method", "clip")
        (agreeing,), (differing,) = (
            verdict_on(right, number_of(42.93, method), **how) for right, how in ((780, near), (700, far))
        )
        assert (agreeing.verdict, agreeing.causes) == ("agrees", ())
        assert differing.verdict == "differs"
    (row,) = verdict_on(780, number_of(42.93, classes=""))
    assert row.verdict == "agrees"
    assert "class names that are not known here" in row.remarks[0]


def test_causes_are_known_differences_first_and_never_what_agrees() -> None:
    others = number_of(80.0, "clip-e", classes="0" * 16)
    (row,) = verdict_on(
        800, others, method="clip-e", templates="plain", sample="a sample", dtype="bfloat16", named_by_user=True
    )
    assert causes_of(row) == [
        "class names",
        "templates",
        "split",
        "resolution and preprocessing",
        "weights and QuickGELU",
        "precision",
    ]
    assert "--templates dtd" in row.causes[1]
    assert "224 x 224" in row.causes[3]
    (row,) = verdict_on(800, number_of(80.0), sample="a sample")
    assert causes_of(row) == ["resolution and preprocessing", "split"]
    (row,) = verdict_on(800, number_of(80.0, "wca"), method="wca")
    assert causes_of(row) == ["descriptions", "resolution and preprocessing", "split", "random views"]
    (row,) = verdict_on(30, number_of(42.93))
    assert causes_of(row)[0] == "labels", "an accuracy at the level of chance has causes of its own"


def test_each_metric_has_a_row_and_of_several_numbers_the_most_alike_counts() -> None:
    recall: PublishedMetric = "mean_per_class_recall"
    unlike, like = number_of(44.0, classes="0" * 16), number_of(43.0, source="another")
    top1, mean = verdict_on(808, unlike, like, number_of(70.0, metric=recall))
    assert (top1.number, top1.verdict) == (like, "agrees")
    assert top1.remarks == ["also published: 44.00 (somebody)"]
    assert (mean.metric, mean.verdict) == (recall, "differs")
    run = checked_run()
    # with equally many images in each class the two intervals are one
    assert run.interval(0.5, recall) == pytest.approx(run.interval(0.5, "acc1"))
    low, _ = replace(run, images_by_class={"a": 1, "b": 99}).interval(0.5, recall)
    assert low == pytest.approx(wilson(0.5 * 4 / (1 + 1 / 99), 4 / (1 + 1 / 99))[0])


def test_without_a_number_the_nearest_is_named() -> None:
    elsewhere, other_model = number_of(60.0, dataset="pets", split="test"), number_of(50.0, model="other/weights")
    wca, other_split = number_of(49.0, "wca"), number_of(41.0, split="test2")
    (row,) = verdict_on(800, elsewhere, other_model, number_of(45.0, "clip-e"), wca, method="abs")
    assert (row.verdict, row.number, row.nearest, row.difference) == ("no published number", None, wca, None)
    assert row.causes == ()
    (row,) = verdict_on(800, elsewhere, other_model, wca, other_split)
    assert row.nearest == other_split
    (row,) = verdict_on(800, elsewhere, other_model)
    assert row.nearest == other_model
    (row,) = verdict_on(800, elsewhere, benchmark="")
    assert row.nearest == elsewhere
    (row,) = verdict_on(800, number_of(60.0, "wca", dataset="pets"), model="mine", benchmark="")
    assert row.nearest is None


@pytest.fixture
def textures(image_folder: Callable[..., Path]) -> Any:
    """Images of noise under the name of a published data set."""
    opened = open_dataset(f"imagefolder:{image_folder('textures', banded=4, dotted=4, woven=4)}")
    return replace(opened, benchmark="dtd", split="test1")


def check(bench: Bench, data: Any, numbers: list[PublishedNumber], *methods: str, **options: Any) -> ModelCheck:
    how = {"published_as": MODEL, "attention": "self", "device": "cpu", "cache": bench.store, "published": numbers}
    return check_model(data, bench.model, methods, **(how | options))


def test_a_small_model_beside_fabricated_numbers(bench: Bench, textures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.evaluation.job.is_whole_split", lambda *_: True)
    classes = class_names_digest(["banded", "dotted", "woven"])
    far = number_of(99.9, "clip-e", classes=classes)
    first = check(bench, textures, [number_of(99.9, classes=classes), far])
    assert [(row.method, row.verdict) for row in first.numbers] == [("clip", "differs"), ("clip-e", "differs")]
    assert "clip-e" not in str(first.numbers[1].remarks), "the templates of the published numbers are the default"
    clip = first.numbers[0].measured
    again = check(bench, textures, [number_of(100 * clip + 0.9, classes=classes), far])
    assert again.work.nothing
    assert [row.verdict for row in again.numbers] == ["agrees", "differs"]
    assert again.differs
    assert not check(bench, textures, [far], "clip").differs
    text = str(again)
    assert "the whole split" in text
    assert "cupl, wca, abs did not run: they need descriptions" in text
    assert text.endswith("1 agree, 1 differ, 0 not published")
    assert f"compared with numbers of {MODEL}" in text
    assert "1 agree" in repr(again)
    assert "<td>agrees</td>" in again._repr_html_()
    value = again.to_dict()
    assert (value["whole"], value["differs"], value["tolerance"]) == (True, True, 0.01)
    assert value["numbers"][0]["published"] == pytest.approx(clip + 0.009)
    assert list(again.to_pandas()["verdict"]) == ["agrees", "differs"]


@pytest.mark.slow
def test_descriptions_bring_the_methods_that_need_them(bench: Bench, textures: Any) -> None:
    space = described("things", "banded", "dotted", "woven")
    result = check(bench, textures, [number_of(99.9, "wca")], descriptions=space)
    assert [row.method for row in result.numbers] == ["clip", "clip-e", "cupl", "wca", "abs"]
    assert {row.method: row.verdict for row in result.numbers}["wca"] == "differs"
    assert "a part of the split" in str(result)
    assert result.results[0].bundle == space.source
    sampled = check(bench, textures, [number_of(99.9, "wca")], descriptions=space, seed=1, limit=6, stratified=True)
    assert "a stratified sample of 6 of 12 images, 2 of each class, seed 1" in sampled.remarks[0]


def test_abs_does_not_run_without_feature_windows(bench: Bench, textures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_classify.models.deferred.DeferredModel.grid_from_config", lambda _: 0)
    result = check(bench, textures, [number_of(50)], descriptions=described("things", "banded", "dotted", "woven"))
    assert [row.method for row in result.numbers] == ["clip", "clip-e", "cupl", "wca"]
    assert any(remark.startswith("abs did not run: the model has no token grid") for remark in result.remarks)


def test_what_cannot_be_compared_is_refused_before_anything_runs(bench: Bench, textures: Any) -> None:
    with pytest.raises(UsageError, match=r"no random sample.* Add --stratified"):
        check(bench, textures, [number_of(50)], limit=4)
    with pytest.raises(UnknownNameError, match=r"unknown published model 'tiny/weight'.*did you mean 'tiny/weights'"):
        check(bench, textures, [number_of(50)], published_as="tiny/weight")
    assert not bench.models


def test_images_of_no_published_data_set_have_no_published_number(bench: Bench, image_folder: Any) -> None:
    folder = f"imagefolder:{image_folder('mine', cat=2, dog=2)}"
    result = check(bench, folder, [number_of(50, dataset="", split="")], published_as=None)
    assert [row.verdict for row in result.numbers] == ["no published number"] * 2
    assert "is no published data set" in str(result)
    assert "named as in dtd:DIR" in result.remarks[0]
