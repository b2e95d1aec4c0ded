"""The guard against a wrong baseline: published numbers, and how a measured one compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from abs_classify.datasets import BENCHMARKS
from abs_classify.evaluation.metrics import MethodResult, evaluate_ranks
from abs_classify.evaluation.published import (
    BaselineCheck,
    GuardedRun,
    PublishedComparison,
    PublishedNumber,
    class_names_digest,
    compare_published,
    published_name,
    published_numbers,
)
from abs_classify.methods.names import template_set_names
from abs_classify.methods.table import METHODS, plan_methods
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import StorageError
from abs_core.files import data_folder
from abs_core.labels import LabelSet, shipped_label_set

OPENAI = "ViT-B-32-quickgelu/openai"
OPEN_CLIP, WCA = "open_clip, results table", "Li et al. 2024 (WCA)"


def result(right: int, images: int, method: str = "clip") -> MethodResult:
    ranks = np.where(np.arange(images) < right, 1, 2)
    return evaluate_ranks(method, ranks, np.arange(images) % 47, 47)


def number_of(percent: float, metric: str = "acc1") -> PublishedNumber:
    assert metric in ("acc1", "mean_per_class_recall")
    return PublishedNumber("dtd", "test1", "clip", OPENAI, "single", metric, percent, "somebody", "")  # type: ignore[arg-type]


def test_the_guard_warns_beyond_one_point() -> None:
    measured_near, measured_far = result(818, 1880), result(770, 1880)
    near, far = (BaselineCheck.of(measured, number_of(42.93)) for measured in (measured_near, measured_far))
    assert not near.off
    assert 100 * near.difference == pytest.approx(100 * 818 / 1880 - 42.93)
    expected = "43.51 [41.29, 45.76] measured, 42.93 published (somebody), +0.58 points"
    assert expected in near.text(measured_near.top1)
    assert far.off
    assert far.text(measured_far.top1).endswith("are not those of the published run")
    measured = result(900, 1880)
    check = BaselineCheck.of(measured, number_of(87.0, "mean_per_class_recall"))
    assert check.measured == pytest.approx(measured.mean_recall)
    assert "[" not in check.text(measured.top1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B-32-quickgelu/openai", "ViT-B-32-quickgelu/openai"),
        ("ViT-B-16/openai", "ViT-B-16-quickgelu/openai"),
        ("ViT-L-14-quickgelu/openai@/some/file.safetensors", "ViT-L-14-quickgelu/openai"),
        ("ViT-B-32/laion400m_e32", "ViT-B-32/laion400m_e32"),
        ("embedded", "embedded"),
    ],
)
def test_the_name_by_which_a_model_is_listed(name: str, expected: str) -> None:
    assert published_name(name) == expected


def percent_of(model: str, dataset: str, method: str = "clip-e", source: str = OPEN_CLIP) -> float:
    found = {
        number.percent
        for number in published_numbers()
        if (number.model, number.dataset, number.method, number.source) == (model, dataset, method, source)
    }
    return found.pop() if len(found) == 1 else -1


def test_a_sample_of_the_figures_as_their_sources_have_them() -> None:
    datasets = ("imagenet", "imagenet-v2", "imagenet-r", "imagenet-a", "imagenet-sketch", "pets", "flowers102",
                "stanford-cars", "fgvc-aircraft", "food101", "dtd", "sun397", "eurosat", "caltech101", "cifar10",
                "cifar100")  # fmt: skip
    rows = {
        "ViT-H-14-378-quickgelu/dfn5b": (84.37, 78.33, 93.76, 79.64, 73.24, 96.96, 89.35, 95.98, 72.19, 96.23, 71.06,
                                         77.33, 61.33, 95.17, 98.80, 90.43),
        "ViT-B-16-SigLIP/webli": (76.04, 68.93, 90.30, 45.41, 67.92, 94.20, 85.49, 90.81, 43.77, 91.62, 64.68, 70.01,
                                  44.28, 95.18, 92.34, 72.23),
        "ViT-B-16/datacomp_xl_s13b_b90k": (73.49, 65.98, 83.62, 48.40, 60.44, 92.54, 77.01, 88.83, 29.70, 90.47, 57.93,
                                           70.51, 58.83, 93.80, 96.24, 82.12),
        "ViT-B-32/commonpool_s_s13m_b4k": (2.70, 2.34, 4.04, 1.41, 1.08, 4.43, 3.38, 1.43, 0.81, 4.73, 5.74, 7.66,
                                           14.87, 15.64, 40.79, 12.96),
        OPENAI: (63.32, 55.92, 69.33, 31.55, 42.29, 87.00, 66.70, 59.63, 19.53, 84.00, 44.36, 62.48, 50.44, 87.58,
                 89.83, 64.23),
    }  # fmt: skip
    for model, figures in rows.items():
        assert tuple(percent_of(model, dataset) for dataset in datasets) == figures, model
    b16 = "ViT-B-16-quickgelu/openai"
    assert (percent_of(b16, "imagenet", "clip", WCA), percent_of(b16, "imagenet", "wca", WCA)) == (66.74, 71.08)
    assert (percent_of(OPENAI, "cub", "cupl", WCA), percent_of(OPENAI, "dtd", "waffle-wca", WCA)) == (49.76, 42.98)
    assert percent_of(b16, "imagenet-a", "clip-e", WCA) == 49.00
    assert percent_of("ViT-L-14-quickgelu/openai", "places365", "clip-d-wca", WCA) == 40.55


def test_the_tables_of_published_numbers_are_sound() -> None:
    numbers = published_numbers()
    by_key: dict[tuple[str, ...], set[float]] = {}
    for number in numbers:
        key = (number.source, number.dataset, number.split, number.method, number.model, number.metric)
        by_key.setdefault(key, set()).add(number.percent)
    # OpenAI's weights stand in open_clip's table under two names, with one number
    assert all(len(percents) == 1 for percents in by_key.values())
    splits = {(benchmark.name, split.name) for benchmark in BENCHMARKS for split in benchmark.splits}
    assert {(number.dataset, number.split) for number in numbers if number.split} <= splits
    assert {number.dataset for number in numbers} <= {benchmark.name for benchmark in BENCHMARKS}
    assert {number.method for number in numbers} == {"clip", "clip-e", "clip-d-wca", "waffle-wca", "cupl", "wca"}
    assert {number.method for number in numbers} <= set(METHODS)
    assert {number.templates for number in numbers} - {""} <= set(template_set_names())
    assert all(0 < number.percent < 100 for number in numbers)
    assert {number.metric for number in numbers} == {"acc1", "mean_per_class_recall"}


def test_every_model_of_open_clip_s_table_is_one_that_open_clip_has() -> None:
    open_clip = pytest.importorskip("open_clip")
    from abs_classify.models.registry import available_models

    listed = {number.model for number in published_numbers() if number.source == OPEN_CLIP}
    assert len(listed) == 118, "121 rows, three of which are OpenAI's weights under a second name"
    assert listed <= {f"{arch}/{tag}" for arch, tag in open_clip.list_pretrained()}
    # of these, architecture and weights disagree on the activation, so that they are refused here
    assert listed - set(available_models()) == {
        "RN101/yfcc15m",
        "RN50/cc12m",
        "RN50/yfcc15m",
        "ViT-B-16/dfn2b",
        "ViT-B-32/laion400m_e31",
        "ViT-B-32/laion400m_e32",
    }


def test_the_class_names_of_the_numbers_are_those_of_the_label_sets_but_for_cub_and_places365() -> None:
    shipped = {benchmark.name: shipped_label_set(benchmark.labels) for benchmark in BENCHMARKS}
    ours = {name: class_names_digest(labels.names.values()) for name, labels in shipped.items()}
    other = {number.dataset for number in published_numbers() if number.classes not in ("", ours[number.dataset])}
    assert other == {"cub", "places365"}
    assert {number.dataset for number in published_numbers() if number.split and not number.classes} == {
        "flowers102",
        "cifar100",
    }


def test_the_digest_of_class_names_forgets_order_capitals_and_underscores() -> None:
    digest = class_names_digest(["Maine Coon", "pug"])
    assert digest == class_names_digest(["pug", "maine_coon"])
    assert digest != class_names_digest(["Maine-Coon", "pug"])
    assert digest != class_names_digest(["Maine Coon", "pug", "pug"])


def compare(
    benchmark: str = "dtd",
    split: str = "test1",
    model: str = OPENAI,
    methods: Sequence[str] = ("clip", "clip-e"),
    templates: str = "dtd",
    whole: bool = True,
    labels: LabelSet | None = None,
    right: int = 820,
) -> PublishedComparison:
    labels = labels or shipped_label_set("dtd")
    descriptions = {class_id: [Description("It is so.")] for class_id in labels.ids}
    plan = plan_methods(methods, LabelSpace(labels, descriptions, "here"), None, templates, None, 0)
    texts = {method.name: texts.digest for method, texts in plan.methods.items()}
    names = labels.names
    run = GuardedRun(benchmark, split, whole, model, names, list(names.values()), texts)
    return compare_published(run, [result(right, 1880, method) for method in methods])


def test_like_is_compared_with_like() -> None:
    comparison = compare()
    assert [(check.method, check.source, check.off) for check, _ in comparison.checks] == [
        ("clip", WCA, False),
        # two sources have it: one line is enough
        ("clip-e", OPEN_CLIP, False),
    ]
    assert comparison.notes == ()
    assert [check.off for check, _ in compare(right=700).checks] == [True, True]
    siglip = compare(model="ViT-B-16-SigLIP/webli", right=1216)
    assert [(check.method, 100 * check.published, check.off) for check, _ in siglip.checks] == [
        ("clip-e", 64.68, False)
    ]


def test_descriptions_of_others_are_shown_and_never_called_off() -> None:
    comparison = compare(methods=("clip", "cupl", "wca", "waffle-wca", "abs"), right=100)
    assert [check.method for check, _ in comparison.checks] == ["clip"]
    shown = f"cupl 47.50 ({WCA}), wca 49.39 ({WCA}), waffle-wca 42.98 ({WCA})"
    assert comparison.notes == (f"published with other texts, so not compared: {shown}",)
    only = compare(methods=("cupl",), right=100)
    assert (only.checks, only.notes) == ((), (f"published with other texts, so not compared: cupl 47.50 ({WCA})",))


def renamed() -> LabelSet:
    labels = shipped_label_set("dtd")
    return LabelSet("renamed", tuple(type(label)(label.id, f"{label.name} one") for label in labels.classes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"benchmark": "ucf101", "split": "coop-test"}, "none is known of ucf101"),
        ({"split": "test2"}, "those of dtd are of the split test1, not of test2"),
        ({"benchmark": "eurosat", "split": "all"}, "those of eurosat are of other images than its splits here"),
        ({"model": "embedded"}, "none is known of embedded on dtd (test1)"),
        ({"whole": False}, "they are of all images of dtd (test1), and some were not classified"),
        (
            {"methods": ("abs",)},
            "those of dtd (test1) are of clip-e, clip, clip-d-wca, waffle-wca, cupl, wca, which did not run",
        ),
        (
            {"methods": ("clip-e",), "templates": "plain"},
            f"clip-e: 44.36 ({OPEN_CLIP}) is published with the templates 'dtd' (--templates dtd)",
        ),
        (
            {"methods": ("clip",), "labels": renamed()},
            f"clip: 42.93 ({WCA}) is published with other class names",
        ),
        (
            {"benchmark": "cifar100", "split": "test", "methods": ("clip-e",)},
            f"clip-e: 64.23 ({OPEN_CLIP}) is published with class names that are not known here",
        ),
    ],
)
def test_silence_is_explained_in_one_line(changes: dict[str, object], reason: str) -> None:
    comparison = compare(**changes)  # type: ignore[arg-type]
    assert comparison.checks == ()
    assert comparison.notes == (f"not compared with published numbers: {reason}",)


def test_nothing_is_said_of_images_that_are_no_published_data_set() -> None:
    assert compare(benchmark="", split="") == PublishedComparison()


@pytest.mark.parametrize("broken", ["", "\t66.74", "classes"])
def test_a_broken_table_is_named(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("published-open-clip.tsv", "published-wca.tsv"):
        text = (data_folder() / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(broken, "") if broken else "", encoding="utf-8")
    monkeypatch.setattr("abs_classify.evaluation.published.data_folder", lambda: tmp_path)
    with pytest.raises(StorageError, match=r"published-.*\.tsv' has a broken line.* Install the package again"):
        published_numbers.__wrapped__()
