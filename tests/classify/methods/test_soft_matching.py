"""Soft matching beyond the golden numbers: its definition, unequal counts, extremes, threads, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from feature_vectors import relative, scaled, soft_tolerance, texts_with, vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT
from torch import Tensor

from abs_classify.methods import similarity as matching
from abs_classify.methods import soft_matching
from abs_classify.methods.scoring import ClassTextFeatures, HardMatch
from abs_classify.methods.soft_matching import soft, soft_reference
from abs_core.errors import ModelError


def plain_soft(views: Tensor, texts: ClassTextFeatures, temperature: float) -> Tensor:
    """The definition once more, in loops over images, views and classes."""
    scores = torch.zeros(len(views), texts.classes, dtype=torch.float64)
    for image, rows in enumerate(views):
        for row in rows:
            z = [texts.features[texts.class_index == c] @ row / temperature for c in range(texts.classes)]
            total = sum(float(torch.exp(own).mean()) for own in z)
            for c, own in enumerate(z):
                scores[image, c] += (torch.exp(own) * own).mean() / total
    return scores


@pytest.mark.parametrize("counts", [[4, 4, 4], [1, 1, 1, 1], [5], [1], [3, 1, 7, 1, 2], [2, 3, 400]])
@pytest.mark.parametrize("shuffled", [False, True])
def test_soft_matching_is_its_definition(counts: list[int], shuffled: bool) -> None:
    texts, views = texts_with(counts, shuffled=shuffled), vectors(5, 3, 7, 32)
    want = plain_soft(views, texts, 0.03)
    assert relative(soft_reference(views, texts.features, texts.class_index, texts.classes), want) < 1e-12
    assert relative(soft(views, texts.features, texts.class_index, texts.classes), want) < 1e-12
    single = soft(views.float(), texts.features.float(), texts.class_index, texts.classes)
    assert single.dtype == torch.float32
    assert relative(single, want) < 3e-6


def seen(blocks: list[tuple[slice, slice]], images: int, crops: int) -> Tensor:
    """How often each view is in a block."""
    times = torch.zeros(images, crops)
    for block in blocks:
        assert times[block].numel()
        times[block] += 1
    return times


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 9), st.data())
@pytest.mark.slow
def test_soft_matching_does_not_depend_on_tiles(
    counts: list[int], images: int, crops: int, data: st.DataObject
) -> None:
    """Every way to cut views and texts gives the same scores, with and without a running maximum."""
    texts, views = texts_with(counts, shuffled=True), vectors(5, images, crops, 32)
    arguments = (views, texts.features, texts.class_index, texts.classes)
    rows, width, workers = (data.draw(st.integers(1, most)) for most in (12, 20, 4))
    problem = texts.soft_texts
    blocks = soft_matching._blocks(images, crops, rows, workers)
    assert torch.equal(seen(blocks, images, crops), torch.ones(images, crops))
    got = torch.zeros(images, texts.classes, dtype=torch.float64)
    for some, part in blocks:
        got[some] += soft_matching._block_scores(views[some, part], problem, 0.03, width)
    assert relative(got, soft_reference(*arguments)) < 1e-11
    sharp = soft(*arguments, temperature=1e-4)
    want = soft_reference(*arguments, temperature=1e-4)
    assert float((sharp - want).abs().max() / want.abs().max()) < 1e-9


def test_ten_thousand_texts_for_one_class_and_one_for_another() -> None:
    texts, views = texts_with([1, 10_000, 3]), vectors(5, 2, 5, 32)
    want = soft_reference(views, texts.features, texts.class_index, 3)
    assert relative(soft(views.float(), texts.features.float(), texts.class_index, 3), want) < 3e-6


def test_a_class_gains_nothing_by_repeating_its_texts() -> None:
    texts, views = texts_with([2, 2]), vectors(5, 3, 7, 32)
    features = torch.cat([texts.features, texts.features[2:]])
    class_index = torch.cat([texts.class_index, texts.class_index[2:]])
    once = soft(views, texts.features, texts.class_index, 2)
    assert relative(soft(views, features, class_index, 2), once) < 1e-12


@pytest.mark.parametrize("temperature", [0.01, 0.001, 1e-5])
def test_powers_beyond_the_float_range_are_kept_in_it(temperature: float) -> None:
    texts, views = texts_with([3, 1, 700, 2]), vectors(5, 3, 7, 32)
    want = soft_reference(views, texts.features, texts.class_index, 4, temperature)
    got = soft(views.float(), texts.features.float(), texts.class_index, 4, temperature).double()
    assert got.isfinite().all()
    assert float((got - want).abs().max() / want.abs().max()) < 3e-7 / temperature


@pytest.mark.parametrize("width", [1, 7, 64, 150])
@pytest.mark.parametrize("counts", [[100], [3, 100, 40, 100], [2, 64, 130]])
def test_a_running_maximum_goes_with_a_class_over_all_of_its_tiles(counts: list[int], width: int) -> None:
    texts, views = texts_with(counts, shuffled=True), vectors(5, 3, 7, 32)
    for temperature in (1e-3, 1e-5):
        want = soft_reference(views, texts.features, texts.class_index, texts.classes, temperature)
        got = soft_matching._block_scores(views, texts.soft_texts, temperature, width)
        assert float((got - want).abs().max() / want.abs().max()) < 1e-9


@pytest.mark.parametrize("temperature", [0.002, 0.003, 0.004, 0.005])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_float32_does_not_overflow_where_float64_would_not(temperature: float, offset: float) -> None:
    views, texts = vectors(5, 3, 7, 32, offset=offset), vectors(1, 60, 32, offset=offset)
    texts = torch.cat([texts, views[0, :1]])  # one view has its own direction among the texts
    class_index = torch.arange(61) % 3
    want = soft_reference(views, texts, class_index, 3, temperature)
    got = soft(views.float(), texts.float(), class_index, 3, temperature).double()
    assert float((got - want).abs().max() / want.abs().max()) < 3e-7 / temperature


def test_many_powers_that_each_fit_but_not_together() -> None:
    # e^79 is within float32, ten thousand of them times 79 are not
    direction = torch.eye(4)[0]
    texts = torch.stack([direction, -direction]).repeat_interleave(10_000, 0)
    scores = soft(direction[None, None], texts, torch.arange(2).repeat_interleave(10_000), 2, temperature=1 / 79)
    torch.testing.assert_close(scores, torch.tensor([[79.0, 0.0]]), rtol=1e-5, atol=1e-5)


def test_vectors_of_any_norm() -> None:
    texts, views = texts_with([3, 4]), 40 * vectors(5, 3, 7, 32)
    want = soft_reference(views, texts.features, texts.class_index, 2)
    got = soft(views.float(), texts.features.float(), texts.class_index, 2).double()
    assert float((got - want).abs().max() / want.abs().max()) < 1e-5


def test_half_precision_is_stored_but_not_summed() -> None:
    texts, views = texts_with([20, 20, 20]), vectors(5, 3, 7, 32)
    half, own = views.half(), texts.features.half()
    want = soft_reference(half.double(), own.double(), texts.class_index, 3)
    assert relative(soft(half, own, texts.class_index, 3), want) < 3e-6
    assert soft(half, own, texts.class_index, 3).dtype == torch.float32


def test_no_images_give_no_scores() -> None:
    texts = texts_with([2, 2])
    assert soft(torch.zeros(0, 5, 32), texts.features.float(), texts.class_index, 2).shape == (0, 2)


def clip_like(images: int, views: int, classes: int, count: int, dims: int) -> tuple[Tensor, Tensor]:
    """Float64 unit views and texts with cosines between about 0.15 and 0.4."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, dims, generator=generator, dtype=torch.float64) / dims**0.5

    image_mean = matching.unit(noise())
    centres = noise(classes)
    text_mean = matching.unit(0.35 * image_mean + noise())
    texts = matching.unit(text_mean + 0.5 * centres[:, None] + 0.35 * noise(classes, count))
    crops = 0.15 * centres[:images][:, None] + 0.3 * noise(images, 1) + 0.6 * noise(images, views)
    return matching.unit(1.2 * image_mean + crops).float(), texts.flatten(0, 1).float()


def test_clip_like_vectors_stay_as_near_to_float64_as_rounding_allows() -> None:
    views, texts = clip_like(3, 100, 200, 50, 512)
    assert 0.1 < float((views[0] @ texts.T).min()) < float((views[0] @ texts.T).max()) < 0.5
    class_index = torch.arange(200).repeat_interleave(50)
    scores, reference = soft(views, texts, class_index, 200), soft_reference(views, texts, class_index, 200)
    assert scaled(scores, reference) < soft_tolerance(views, texts)


@pytest.mark.parametrize("seed", range(24))
def test_vectors_of_any_kind_stay_as_near_to_float64_as_rounding_allows(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def choose(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    dims, classes, count, crops = choose(16, 64, 512, 1024), choose(2, 9, 60), choose(1, 3, 11), choose(1, 2, 30)
    shared = torch.randn(dims, generator=generator) * choose(0, 1, 2)
    texts = matching.unit(torch.randn(classes * count, dims, generator=generator) + shared)
    views = matching.unit(torch.randn(2, crops, dims, generator=generator) + 0.5 * shared)
    class_index = torch.arange(classes).repeat_interleave(count)
    scores, reference = (match(views, texts, class_index, classes) for match in (soft, soft_reference))
    assert scaled(scores, reference) < soft_tolerance(views, texts)
    assert scaled(soft(views.double(), texts.double(), class_index, classes), reference) < 1e-12


@pytest.mark.parametrize(("images", "crops"), [(1, 300), (3, 100), (30, 7)])
def test_threads_change_rounding_only(images: int, crops: int) -> None:
    views, texts = clip_like(images, crops, 700, 60, 32)
    class_index = torch.arange(700).repeat_interleave(60)
    assert images * crops * len(texts) >= soft_matching._MANY
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = soft(views, texts, class_index, 700)
        torch.set_num_threads(3)
        three = soft(views, texts, class_index, 700)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert relative(three.double(), one.double()) < 1e-6


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of the resident set is read from /proc")
@pytest.mark.slow
def test_the_benchmark_finds_little_memory_and_small_errors() -> None:
    """Its ratio is not asserted here: tests run beside each other."""
    sizes = ["--classes", "1000", "--texts", "50", "--dims", "64", "--images", "8", "--repeats", "1", "--check", "1"]
    command = [sys.executable, str(ROOT / "benchmarks" / "soft_matching.py"), *sizes, "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    result = json.loads(done.stdout)
    # every similarity at once would take 160 MB
    assert 0 < result["extra_megabytes"] < 100
    assert result["largest_error"] < 1e-6
    assert result["ratio"] > 0


def test_hard_matching_is_what_soft_matching_sharpens_to() -> None:
    texts, views = texts_with([2, 3, 1]), vectors(5, 4, 6, 32)
    sharp = soft(views, texts.features, texts.class_index, 3, temperature=1e-6) * 1e-6
    assert torch.allclose(sharp, HardMatch().scores({"box": views}, texts), atol=1e-6)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_view_without_direction_is_named_by_soft_matching(bad: float) -> None:
    views = torch.ones(2, 3, 4)
    views[1, 2] = bad
    with pytest.raises(ModelError, match="view 2 of image 1 "):
        soft(views, torch.ones(2, 4), torch.tensor([0, 1]), 2)
