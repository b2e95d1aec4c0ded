"""The stages: what comes twice, what is missing of it, and where the time goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from evaluations import Bench

from abs_classify.datasets import Sample
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.samples import IdentifiedSample, UnreadableImage
from abs_classify.encoding.spaces import Segment, Space
from abs_classify.encoding.stages import ModelSettings, Stages, open_stages
from abs_classify.methods.class_texts import ClassTextInputs, Sentences
from abs_classify.methods.scoring import CosineToMean
from abs_classify.methods.table import Method
from abs_classify.methods.views import AttentionCrops, FeatureWindows, FullImage, RandomCrops, ViewSource
from abs_core.canonical import sha256_bytes
from abs_core.descriptions import Description


def counts(stages: Stages) -> dict[str, int]:
    """Rows that were computed, by stage."""
    rows: dict[str, int] = {}
    for use in stages.work.spaces.values():
        if use.rows_computed:
            rows[use.space.stage] = rows.get(use.space.stage, 0) + use.rows_computed
    return rows


@pytest.fixture
def images(image_folder: Callable[..., Path]) -> list[IdentifiedSample]:
    paths = sorted(image_folder("data", cat=4).rglob("*.png"))
    return [IdentifiedSample(Sample(path, ""), sha256_bytes(path.read_bytes())) for path in paths]


def fresh(
    bench: Bench, images: Sequence[IdentifiedSample], views: Sequence[ViewSource]
) -> dict[ViewSource, torch.Tensor]:
    """The features, computed from nothing."""
    with TemporaryDirectory(dir=bench.folder) as folder:
        return open_stages(DiskStore(Path(folder)), bench.model, ModelSettings("self", "cpu")).views(images, views)


VIEWS: tuple[ViewSource, ...] = (FullImage(), RandomCrops(4), AttentionCrops(5), FeatureWindows(3))
FEWER: tuple[ViewSource, ...] = (RandomCrops(2), AttentionCrops(2), FeatureWindows(3))


@pytest.mark.slow
def test_only_what_is_missing_is_computed_and_it_is_what_a_run_from_nothing_gives(
    bench: Bench, images: list[IdentifiedSample]
) -> None:
    first, second, third, fourth = images
    renamed = IdentifiedSample(Sample(Path("no such file.png"), ""), second.id)
    steps: list[tuple[list[IdentifiedSample], Sequence[ViewSource], dict[str, int]]] = [
        ([first, second, third], FEWER, {"view-features": 3 * 7, "attention": 3}),
        ([third, first], FEWER, {}),
        ([first, renamed, third], FEWER, {}),
        ([first, second, third], VIEWS, {"view-features": 3 * (1 + 2 + 3)}),
        ([fourth, second, first, third], VIEWS, {"view-features": 13, "attention": 1}),
        ([fourth, second], FEWER, {}),
        ([fourth], [RandomCrops(9)], {"view-features": 5}),
    ]
    for shard, views, computed in steps:
        stages = bench.stages()
        features = stages.views(shard, views)
        assert counts(stages) == computed
        named = [second if image is renamed else image for image in shard]
        for view, rows in fresh(bench, named, views).items():
            torch.testing.assert_close(features[view], rows, rtol=0, atol=1e-5)


def test_sources_that_differ_in_number_alone_are_encoded_as_one(bench: Bench, images: list[IdentifiedSample]) -> None:
    stages = bench.stages()
    few, many = RandomCrops(2), RandomCrops(5)
    features = stages.views(images[:2], [few, many])
    assert counts(stages) == {"view-features": 10}
    assert torch.equal(features[few], features[many][:, :2])


def test_a_next_shard_that_another_process_computed_meanwhile_is_right(
    bench: Bench, images: list[IdentifiedSample]
) -> None:
    stages, view = bench.stages(), FullImage()
    texts = Sentences().build(ClassTextInputs({"cat": "cat"}, {"cat": [Description("A cat.")]}))
    method = Method("m", "", (view,), Sentences(), CosineToMean())
    stages.scores(images[:2], {method: texts}, then=images[2:])
    bench.stages().views(images[2:3], [view])
    scores = stages.scores(images[2:], {method: texts}).by_method["m"]
    expected = fresh(bench, images[2:], [view])[view][:, 0] @ stages.text_features(texts).means.T
    torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=0, atol=1e-5)


class StoppedStore(DiskStore):
    """Its process ends before it keeps what comes after so many times."""

    left = 0

    def append(self, space: Space, segments: Sequence[Segment]) -> None:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super().append(space, segments)


@pytest.mark.parametrize("appends", range(4))
def test_a_run_that_ends_while_it_keeps_a_shard_leaves_no_gap_and_nothing_twice(
    bench: Bench, images: list[IdentifiedSample], appends: int
) -> None:
    views = [RandomCrops(2), AttentionCrops(2), FullImage()]
    stopped = StoppedStore(bench.store.root)
    stopped.left = appends
    with pytest.raises(KeyboardInterrupt):
        open_stages(stopped, bench.model, ModelSettings("self", "cpu")).views(images[:2], views)
    bench.stages().views(images[:2], views)
    rows = {space.digest: (space.items, space.rows) for space in bench.store.summaries()}
    assert sorted(rows.values()) == [(2, 2), (2, 2), (2, 4), (2, 4)]


@pytest.mark.slow
def test_two_runs_at_once_do_not_do_the_same_work_twice(bench: Bench, image_folder: Callable[..., Path]) -> None:
    paths = sorted(image_folder("many", cat=12).rglob("*.png"))
    samples = [IdentifiedSample(Sample(path, ""), sha256_bytes(path.read_bytes())) for path in paths]
    view = RandomCrops(20)
    runs = [bench.stages(), bench.stages()]
    start = threading.Barrier(len(runs))

    def run(stages: Stages) -> torch.Tensor:
        _ = stages.models.model  # so that both begin to encode at the same time
        start.wait()
        return torch.cat([stages.views(samples[first : first + 4], [view])[view] for first in range(0, 12, 4)])

    with ThreadPoolExecutor(len(runs)) as pool:
        features = list(pool.map(run, runs))
    assert sum(stages.work.views_computed for stages in runs) == 12 * 20
    assert torch.equal(features[0], features[1])


def test_the_bytes_of_what_is_missing_are_announced(bench: Bench, images: list[IdentifiedSample]) -> None:
    class Announced(MemoryStore):
        required = 0

        def announce(self, required: int) -> None:
            self.required = required

    store = Announced(None)
    stages = bench.stages().for_run(store)
    facts = stages.models.facts
    stages.announce(images, [FullImage(), RandomCrops(2), RandomCrops(3), AttentionCrops(2)])
    assert store.required == 4 * 4 * ((1 + 3 + 2) * facts.embed_dim + facts.attention_grid**2)
    stages.views(images[:3], [FullImage(), RandomCrops(3), AttentionCrops(2)])
    stages.announce(images, [FullImage(), RandomCrops(4)])
    assert store.required == 4 * (3 * 1 + 5) * facts.embed_dim


def test_what_was_computed_before_an_image_that_fails_is_kept(bench: Bench, images: list[IdentifiedSample]) -> None:
    stages = bench.stages()
    gone = IdentifiedSample(Sample(Path("gone.png"), ""), "sha256:" + "0" * 64)
    with pytest.raises(UnreadableImage):
        stages.views([*images[:3], gone, images[3]], [FullImage()])
    again = bench.stages()
    again.views(images, [FullImage()])
    assert (counts(stages), counts(again)) == ({"view-features": 3}, {"view-features": 1})


def test_an_image_that_comes_twice_keeps_the_attention_of_the_next_one_in_place(
    bench: Bench, images: list[IdentifiedSample]
) -> None:
    first, second, third, fourth = images
    stages, shard = bench.stages(), [first, first, second, third, second, fourth]
    views = AttentionCrops(3)
    expected = fresh(bench, images, [views])[views]
    stages.views(shard, [AttentionCrops(2)])
    # one more view of the same attention
    features = stages.views(shard, [views])[views]
    assert counts(stages) == {"attention": 4, "view-features": 12}
    torch.testing.assert_close(features, expected[[0, 0, 1, 2, 1, 3]], rtol=0, atol=1e-5)
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
        stages.views([IdentifiedSample(Sample(tmp_path, "", SlowDamage()), "sha256:" + "0" * 64)], [FullImage()])
    assert stages.seconds["read"] > 0.45
    assert stages.seconds["encode"] < 0.25


def test_attention_maps_that_the_store_lost_are_computed_again(bench: Bench, images: list[IdentifiedSample]) -> None:
    stages = bench.stages()
    stages.views(images, [AttentionCrops(2)])
    before = stages.attention(images)
    packs = [path for path in bench.folder.rglob("*.safetensors") if stages._spaces.attention.digest in str(path)]
    assert packs
    for path in packs:
        path.unlink()
    again = bench.stages()
    np.testing.assert_allclose(again.attention([*images, images[0]]), before[[0, 1, 2, 3, 0]], atol=1e-5)
    assert counts(again)["attention"] == 4
    bench.stages().attention(images)
