"""The guard against a wrong baseline: published numbers, and how a measured one compares."""

from __future__ import annotations

import numpy as np
import pytest

from abs_classify.datasets import BENCHMARKS
from abs_classify.evaluation.metrics import MethodResult, evaluate_ranks
from abs_classify.evaluation.published import (
    BaselineCheck,
    PublishedNumber,
    find_published,
    openai_model,
    published_numbers,
)


def result(right: int, images: int, method: str = "clip") -> MethodResult:
    ranks = np.where(np.arange(images) < right, 1, 2)
    return evaluate_ranks(method, ranks, np.arange(images) % 47, 47)


def test_the_guard_warns_beyond_one_point() -> None:
    published = PublishedNumber("dtd", "test1", "ViT-B/32", "single", "acc1", 42.93, "somebody")
    measured_near, measured_far = result(818, 1880), result(770, 1880)
    near, far = BaselineCheck.of(measured_near, published), BaselineCheck.of(measured_far, published)
    assert not near.off
    assert 100 * near.difference == pytest.approx(100 * 818 / 1880 - 42.93)
    expected = "43.51 [41.29, 45.76] measured, 42.93 published (somebody), +0.58 points"
    assert expected in near.text(measured_near.top1)
    assert far.off
    assert far.text(measured_far.top1).endswith("are not those of the published run")
    recall = PublishedNumber("pets", "test", "ViT-B/32", "pets", "mean_per_class_recall", 87.0, "somebody")
    measured = result(900, 1880)
    check = BaselineCheck.of(measured, recall)
    assert check.measured == pytest.approx(measured.mean_recall)
    assert "[" not in check.text(measured.top1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32-quickgelu/openai", "ViT-B/32"),
        ("ViT-B-16-quickgelu/openai", "ViT-B/16"),
        ("ViT-L-14-quickgelu/openai@/some/file.safetensors", "ViT-L/14"),
        ("ViT-L-14-336-quickgelu/openai", None),
        ("ViT-B-16/datacomp_xl_s13b_b90k", None),
        ("ViT-L-16/openai", None),
        ("embedded", None),
    ],
)
def test_whose_weights_a_published_number_is_of(name: str, expected: str | None) -> None:
    assert openai_model(name) == expected


def test_published_numbers_by_data_set_split_model_and_templates() -> None:
    model = "ViT-B-16-quickgelu/openai"
    (single,) = find_published("imagenet", "val", model, "single")
    (ensemble,) = find_published("imagenet", "val", model, "imagenet-80")
    assert (single.percent, ensemble.percent) == (66.74, 68.34)
    assert find_published("dtd", "test2", model, "single") == ()
    assert find_published("dtd", "test1", "embedded", "single") == ()
    assert find_published("", "", model, "single") == ()
    (pets,) = find_published("pets", "test", model, "pets")
    assert (pets.metric, pets.percent) == ("mean_per_class_recall", 88.86)


def test_the_table_of_published_numbers_is_sound() -> None:
    rows = published_numbers()
    keys = [(row.dataset, row.split, row.model, row.templates, row.metric) for row in rows]
    assert len(set(keys)) == len(keys)
    splits = {(benchmark.name, split.name) for benchmark in BENCHMARKS for split in benchmark.splits}
    assert all((row.dataset, row.split) in splits for row in rows if row.split != "-")
    assert {row.dataset for row in rows} <= {benchmark.name for benchmark in BENCHMARKS}
    assert all(openai_model(f"{row.model.replace('/', '-')}-quickgelu/openai") == row.model for row in rows)
    assert all(0 < row.percent < 100 and row.metric in ("acc1", "mean_per_class_recall") for row in rows)
