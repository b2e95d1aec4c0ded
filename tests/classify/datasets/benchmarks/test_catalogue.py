"""The declarations of published data sets."""

from __future__ import annotations

import pytest
from miniatures import miniature

from abs_classify.datasets import BENCHMARKS
from abs_core.labels import shipped_label_set


def test_the_declared_sizes_are_the_published_ones() -> None:
    sizes = {benchmark.name: benchmark.splits[0].images for benchmark in BENCHMARKS}
    assert sizes == {
        "imagenet": 50_000, "imagenet-v2": 10_000, "imagenet-r": 30_000, "imagenet-a": 7_500,
        "imagenet-sketch": 50_889, "cub": 5_794, "pets": 3_669, "flowers102": 6_149, "stanford-cars": 8_041,
        "fgvc-aircraft": 3_333, "food101": 25_250, "dtd": 1_880, "places365": 36_500, "sun397": 19_850,
        "eurosat": 8_100, "caltech101": 2_465, "ucf101": 3_783, "cifar10": 10_000, "cifar100": 10_000,
    }  # fmt: skip
    coop = {
        benchmark.name: next(split.images for split in benchmark.splits if split.name == "coop-test")
        for benchmark in BENCHMARKS
        if any(split.name == "coop-test" for split in benchmark.splits)
    }
    assert coop == {
        "pets": 3_669, "flowers102": 2_463, "stanford-cars": 8_041, "food101": 30_300, "dtd": 1_692,
        "sun397": 19_850, "eurosat": 8_100, "caltech101": 2_465, "ucf101": 3_783,
    }  # fmt: skip


@pytest.mark.parametrize("name", [benchmark.name for benchmark in BENCHMARKS])
def test_parts_have_names_of_their_own_and_label_sets_exist(name: str) -> None:
    benchmark = miniature(name)
    names = [split.name for split in benchmark.splits]
    assert len(set(names)) == len(names)
    ids = shipped_label_set(benchmark.labels).ids
    assert all(set(split.without) <= set(ids) for split in benchmark.splits)
