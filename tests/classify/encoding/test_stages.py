"""The cached stages: what comes twice, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from evaluations import Bench

from abs_classify.datasets import Sample
from abs_classify.encoding.samples import IdentifiedSample, UnreadableImage
from abs_classify.methods.views import AttentionCrops, FullImage
from abs_core.canonical import sha256_bytes


def test_an_image_that_comes_twice_keeps_the_attention_of_the_next_one_in_place(
    bench: Bench, image_folder: Callable[..., Path]
) -> None:
    paths = sorted(image_folder("data", cat=4).rglob("*.png"))
    first, second, third, fourth = (
        IdentifiedSample(Sample(path, ""), sha256_bytes(path.read_bytes())) for path in paths
    )
    stages, shard = bench.stages(), [first, first, second, third, second, fourth]
    expected = stages.views([first, second, third, fourth], [AttentionCrops(3)])[AttentionCrops(3)]
    stages.views(shard, [AttentionCrops(2)])
    assert bench.cache.misses["attention"] == 2
    # other views of the same attention
    found = stages.views(shard, [AttentionCrops(3)])[AttentionCrops(3)]
    assert bench.cache.misses["attention"] == 2
    torch.testing.assert_close(found, expected[[0, 0, 1, 2, 1, 3]], rtol=0, atol=1e-5)
    assert (expected[1] - expected[2]).abs().max() > 1e-3


@dataclass(frozen=True)
class SlowDamage:
    """What is no image, and takes its time."""

    name: str = "slow.png"

    def read(self) -> bytes:
        time.sleep(0.5)
        return b"no image"


def test_the_time_to_read_a_bad_image_counts_once(bench: Bench, tmp_path: Path) -> None:
    stages = bench.stages()
    with pytest.raises(UnreadableImage):
        stages.views([IdentifiedSample(Sample(tmp_path, "", SlowDamage()), "sha256:0")], [FullImage()])
    assert stages.seconds["read"] > 0.45
    assert stages.seconds["encode"] < 0.25
