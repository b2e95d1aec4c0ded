"""Robustness of small models on images of noise: each image encoded once, each number that of a run by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluations import Bench, described
from torch import Tensor

from abs_classify import Classifier, RobustnessResults, RobustnessSettings, evaluate, measure_robustness
from abs_classify.datasets import open_dataset
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.evaluation.robustness import auroc
from abs_classify.evaluation.robustness_draws import chosen_classes, subspace
from abs_classify.methods.class_texts import Template
from abs_classify.methods.scoring import ClassTextFeatures
from abs_classify.methods.table import Method
from abs_classify.methods.views import FullImage
from abs_core.descriptions import LabelSpace
from abs_core.errors import DatasetError, UsageError
from abs_core.labels import from_names

NAMES = ("car", "cat", "dog", "eel")


class FirstClass:
    """A scorer that breaks the rule: every image gets the class that is listed first."""

    def key(self) -> dict[str, Any]:
        return {"matcher": "first-class"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        return torch.zeros(len(views["whole"]), texts.classes)


class ClassByPlace(FirstClass):
    """A scorer that breaks another: an image gets a class by its place among those that are scored with it."""

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        return torch.eye(texts.classes)[torch.arange(len(views["whole"])) % texts.classes]


FIRST = Method("first-class", "", (FullImage(),), Template(), FirstClass())
PLACE = Method("class-by-place", "", (FullImage(),), Template(), ClassByPlace())


@pytest.fixture
def data(image_folder: Callable[..., Path]) -> Path:
    return image_folder("data", car=12, cat=10, dog=9, eel=8)


def measured(bench: Bench, data: Path, methods: Any = ("clip", "abs", "onzeta"), **options: Any) -> RobustnessResults:
    drawn = {"draws", "hidden", "present", "imbalance", "added", "added_counts"}
    settings = RobustnessSettings(**{"draws": 2, **{name: options.pop(name) for name in drawn & set(options)}})
    how: dict[str, Any] = {"model": bench.model, "attention": "self", "device": "cpu", "cache": bench.store}
    how["views"] = 2 if "abs" in methods else None
    return measure_robustness(f"imagefolder:{data}", methods, settings, **(how | options))


@pytest.mark.slow
def test_every_image_is_encoded_once_and_numbers_are_those_of_the_evaluation(bench: Bench, data: Path) -> None:
    added = LabelSpace.of_labels(from_names(["owl", "yak", "Cat"]))
    results = measured(bench, data, descriptions=described("things", *NAMES), added=added, seed=3)
    assert (results.work.images_computed, results.work.views_computed) == (39, 39 * (1 + 2 + 2))
    assert [entry.method for entry in results.confidences] == ["clip", "abs", "onzeta"]
    records = bench.run(data, "clip,abs,onzeta", descriptions=described("things", *NAMES), seed=3)
    assert records.work.views_computed == 0
    for entry, record, own in zip(results.confidences, records, results.results, strict=True):
        assert entry.top1.value == record.metrics.acc1 == own.metrics.acc1
        assert (entry.top1.low, entry.top1.high) == pytest.approx((record.details.top1.low, record.details.top1.high))
    assert [(entry.method, entry.added) for entry in results.added] == [(name, 2) for name in ("clip", "abs", "onzeta")]
    assert any("1 of the 3 classes" in remark for remark in results.remarks)
    assert any("2 of the added classes have no descriptions" in remark for remark in results.remarks)
    assert [entry.method for entry in results.streams] == ["onzeta"]
    # a method that looks at each image alone
    for effect in results.class_order[:2]:
        assert (effect.changed.value, effect.images, effect.stream) == (0, 0, False)
    assert [(entry.method, entry.regime) for entry in results.regimes] == [
        (name, regime) for regime in ("few classes", "long tail") for name in ("clip", "abs", "onzeta")
    ]
    for regime in (entry for entry in results.regimes if entry.method != "onzeta"):
        assert (regime.changed.value, regime.top1_difference.value, regime.mean_recall_difference.value) == (0, 0, 0)
    assert not [remark for remark in results.remarks if remark.startswith("warning: clip looks")]
    again = measured(bench, data, descriptions=described("things", *NAMES), added=added, seed=3)
    assert again.work.nothing
    assert again.to_dict() == {**results.to_dict(), "results": again.to_dict()["results"]}


@pytest.mark.slow
def test_confidences_are_those_of_predictions_among_the_classes_that_are_left(bench: Bench, data: Path) -> None:
    results = measured(bench, data, ["clip", "tda"], hidden=0.5)
    space = LabelSpace.of_labels(from_names(NAMES))
    paths = sorted(data.rglob("*.png"))
    for entry, whole in zip(results.unknown, results.confidences, strict=True):
        areas = []
        for draw in range(2):
            hidden = chosen_classes(sorted(NAMES), 0.5, 0, f"hidden classes {draw}")
            assert len(hidden) == 2
            left = subspace(space, [name for name in NAMES if name not in hidden])
            confidences = self_confidences(bench, left, entry.method, paths)
            areas.append(auroc(confidences, np.array([path.parent.name not in hidden for path in paths])))
        if entry.method == "clip":  # a stream sees another order there
            assert entry.by_draw == pytest.approx(areas)
            assert entry.detection.auroc.value == pytest.approx(np.mean(areas))
            mean = self_confidences(bench, space, "clip", paths).mean()
            assert whole.confidence == pytest.approx(mean, abs=1e-6)


def self_confidences(bench: Bench, space: LabelSpace, method: str, paths: list[Path]) -> np.ndarray:
    """The confidences that a classifier gives."""
    classifier = Classifier(bench.stages().models, space, method=method, cache=bench.store)
    return np.array([prediction.confidence for prediction in classifier.classify(paths)])


@pytest.mark.slow
def test_orders_of_the_images_are_those_of_an_evaluation_with_as_many_seeds(bench: Bench, data: Path) -> None:
    (stream,) = measured(bench, data, ["onzeta"], draws=3, seed=7).streams
    spec, how = f"imagefolder:{data}", {"device": "cpu", "cache": bench.store, "seed": 7}
    (shuffled,) = evaluate(spec, bench.model, "onzeta", seeds=3, **how)
    (listed,) = evaluate(spec, bench.model, "onzeta", stream_order="dataset", **how)
    assert stream.by_order == pytest.approx(shuffled.details.seeds.acc1)
    assert stream.top1.value == pytest.approx(shuffled.details.seeds.mean)
    assert stream.listed == listed.metrics.acc1
    assert stream.changed is not None
    (alone,) = measured(bench, data, ["onzeta"], draws=1, seed=7).streams
    assert alone.changed is None


@pytest.mark.slow
def test_methods_that_break_the_rules_are_named(bench: Bench, data: Path) -> None:
    results = measured(bench, data, [FIRST, PLACE], draws=4, imbalance=4.0)
    first = results.class_order[0]
    assert first.changed.value > 0
    assert any(
        remark.startswith(f"warning: first-class looks at each image alone, and {first.images} of 39 images")
        for remark in results.remarks
    )
    for regime in ("few classes", "long tail"):
        said = f"class-by-place is no stream method, and its labels depend on the other images ({regime})"
        assert f"warning: {said}" in results.remarks
    assert not any("first-class is no stream" in remark for remark in results.remarks)
    tails = [entry for entry in results.regimes if entry.regime == "long tail"]
    assert all(1 < entry.factor <= 4 and entry.classes == 4 for entry in tails)


@pytest.mark.slow
def test_added_classes_take_labels_and_more_of_them_take_more(bench: Bench, data: Path) -> None:
    names = [f"animal {number}" for number in range(30)]
    added = LabelSpace.of_labels(from_names(names))
    results = measured(bench, data, ["clip"], added=added, added_counts=(5, 30, 20), draws=1)
    assert [entry.added for entry in results.added] == [5, 20, 30]
    lost = [entry.lost.value for entry in results.added]
    assert lost == sorted(lost)
    for entry in results.added:
        assert entry.changed.value == 0  # what is not lost stays with a method without a memory
        assert entry.difference.value == pytest.approx(entry.top1.value - results.confidences[0].top1.value)
        assert -entry.lost.value <= entry.difference.value <= 0


@pytest.mark.slow
def test_what_cannot_be_measured_is_said(bench: Bench, image_folder: Callable[..., Path]) -> None:
    two = measured(bench, image_folder("two", car=2, cat=2), ["clip"])
    assert two.unknown == []
    assert any(remark.startswith("no classes were hidden") for remark in two.remarks)
    assert "warning: the intervals hold for many images, and these are 4" in two.remarks
    one = measured(bench, image_folder("single", car=2), ["clip"], labels=list(NAMES))
    assert one.regimes == []
    assert any("of one class" in remark for remark in one.remarks)
    bad = image_folder("bad", car=3, cat=3, dog=3)
    (bad / "cat" / "bad.png").write_bytes(b"no image")
    kept = measured(bench, bad, ["clip", "tda"], on_error="skip")
    assert kept.results[0].details.data.images == 9
    assert any("bad.png" in remark for remark in kept.remarks)


def test_what_cannot_run_is_refused_before_any_image(bench: Bench, data: Path) -> None:
    for options, message in (
        ({"draws": 0}, "draws must be 1 or more, got 0"),
        ({"hidden": 1.0}, "hidden must be above 0 and below 1, got 1"),
        ({"present": float("nan")}, "present must be above 0 and below 1, got nan"),
        ({"imbalance": 1.0}, "imbalance must be above 1, got 1"),
        ({"added_counts": (3,)}, "need classes to add"),
        ({"added": LabelSpace.of_labels(from_names(["Cat"]))}, "cannot be added: 0 of them"),
        ({"added": LabelSpace.of_labels(from_names(["owl"])), "added_counts": (2,)}, "2 of the 1 classes"),
        ({"added": LabelSpace.of_labels(from_names(["owl"])), "added_counts": (0,)}, "1 or more, got 0"),
        ({"views": "adaptive"}, "must be a whole number from 1 on, got 'adaptive'"),
    ):
        with pytest.raises(UsageError, match=message):
            measured(bench, data, ["clip"], **options)
    with pytest.raises(DatasetError, match="is not a candidate class"):
        measured(bench, data, ["clip"], labels=["car", "cat", "dog"])


@pytest.mark.slow
def test_a_cache_without_room_is_refused_after_the_first_pass(
    bench: Bench, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = image_folder("many", car=40, cat=30)  # more than memory holds beside a cache
    with pytest.raises(UsageError, match=r"no room for [\d,]+ bytes of features.*Raise --cache-size"):
        measured(bench, data, ["clip"], cache=DiskStore(tmp_path / "small", limit=0))


@pytest.mark.slow
def test_where_a_benchmark_chooses_among_some_classes_only_they_and_added_ones_win(bench: Bench, data: Path) -> None:
    opened = open_dataset(f"imagefolder:{data}")
    chosen = tuple(sample for sample in opened.samples if sample.label in ("car", "cat"))
    dataset = replace(opened, samples=chosen, selected=("car", "cat"))
    how: dict[str, Any] = {"device": "cpu", "cache": bench.store}
    added = LabelSpace.of_labels(from_names([f"animal {number}" for number in range(30)]))
    settings = RobustnessSettings(draws=1, added=added)
    results = measure_robustness(dataset, ["clip", "tda"], settings, model=bench.model, **how)
    records = evaluate(dataset, bench.model, ["clip", "tda"], **how)
    assert [entry.top1.value for entry in results.confidences] == [record.metrics.acc1 for record in records]
    assert results.unknown == []  # two classes can win
    assert any(entry.lost.value > 0 for entry in results.added)
    assert all(entry.changed.value == 0 for entry in results.class_order if not entry.stream)
