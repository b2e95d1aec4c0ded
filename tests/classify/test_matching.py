"""Matching beyond the golden numbers: unequal counts, extremes, bad numbers, memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from abs_classify.methods import similarity as matching
from abs_classify.methods import soft_matching
from abs_classify.methods.baselines import DMN, MTA, TDA, OnZeta, Zero
from abs_classify.methods.scoring import (
    AdditiveScorer,
    ClassTextFeatures,
    CosineToMean,
    HardMatch,
    MaxSimilarity,
    MeanSimilarity,
    Scorer,
    SoftMatch,
    WeightedCosine,
    run_stream,
)
from abs_classify.methods.soft_matching import soft, soft_reference
from abs_core.errors import ModelError, UsageError

ROOT = Path(__file__).parents[2]
SCORERS = [CosineToMean(), MeanSimilarity(), MaxSimilarity(), HardMatch(), SoftMatch(), WeightedCosine()]
STREAMS = [TDA(), DMN(), OnZeta()]


def vectors(seed: int, *shape: int, offset: float = 1.0) -> Tensor:
    """Unit float64 vectors around a common direction, so that cosines are positive as CLIP's are."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    common = torch.randn(shape[-1], generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return matching.unit(noise + offset * common)


def texts_with(counts: list[int], dims: int = 32, *, shuffled: bool = False) -> ClassTextFeatures:
    class_index = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    if shuffled:
        class_index = class_index[torch.randperm(len(class_index), generator=torch.Generator().manual_seed(3))]
    return ClassTextFeatures(vectors(1, len(class_index), dims), class_index, vectors(2, len(counts), dims))


def views_of(images: int = 3, crops: int = 7, dims: int = 32) -> dict[str, Tensor]:
    return {"whole": vectors(4, images, 1, dims), "random": vectors(5, images, crops, dims)}


def relative(got: Tensor, want: Tensor) -> float:
    return float(((got - want) / want).abs().max())


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
    for scorer in SCORERS:
        assert scorer.scores(views_of(), texts).isfinite().all()


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


def test_clip_like_vectors_stay_within_a_millionth_of_float64() -> None:
    views, texts = clip_like(3, 100, 200, 50, 512)
    assert 0.1 < float((views[0] @ texts.T).min()) < float((views[0] @ texts.T).max()) < 0.5
    class_index = torch.arange(200).repeat_interleave(50)
    assert relative(soft(views, texts, class_index, 200), soft_reference(views, texts, class_index, 200)) < 3e-7


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


def test_a_class_mean_normalises_before_and_after() -> None:
    features = torch.tensor([[10.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    means = matching.class_means(features, torch.tensor([0, 0, 1]), 2)
    assert torch.allclose(means, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))


def test_wca_uses_every_crop_once_unless_told() -> None:
    views = views_of()
    whole, crops = views["whole"][:, 0], views["random"]
    every = matching.weighted_views(whole, crops, 4.0, torch.arange(7))
    assert torch.allclose(matching.weighted_views(whole, crops, 4.0), every, rtol=0, atol=1e-15)
    twice = matching.view_weights(whole, crops, 4.0, torch.tensor([1, 1, 2]))
    assert torch.allclose(twice.sum(1), torch.ones(3, dtype=torch.float64))
    assert (twice[:, [0, 3, 4, 5, 6]] == 0).all()


def test_wca_weights_stay_finite_at_large_scales() -> None:
    texts = texts_with([3, 5])
    weights = matching.text_weights(texts.features, texts.class_index, texts.labels, 8.0)
    assert torch.allclose(matching.class_sums(weights, texts.class_index, 2), torch.ones(2, dtype=torch.float64))


def test_max_and_hard_take_the_best_text() -> None:
    texts, views = texts_with([2, 3, 1], shuffled=True), vectors(5, 4, 6, 32)
    cosines = views @ texts.features.T
    best = torch.stack([cosines[..., texts.class_index == c].amax(-1) for c in range(3)], dim=-1)
    assert torch.allclose(MaxSimilarity().scores({"box": views}, texts), best.mean(1))
    won = torch.nn.functional.one_hot(best.argmax(-1), 3)
    assert torch.allclose(HardMatch().scores({"box": views}, texts), (won * best).sum(1))


def test_hard_matching_is_what_soft_matching_sharpens_to() -> None:
    texts, views = texts_with([2, 3, 1]), vectors(5, 4, 6, 32)
    sharp = soft(views, texts.features, texts.class_index, 3, temperature=1e-6) * 1e-6
    assert torch.allclose(sharp, HardMatch().scores({"box": views}, texts), atol=1e-6)


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.key()["matcher"])
def test_parts_add_up_to_the_scores(scorer: AdditiveScorer) -> None:
    texts, views = texts_with([2, 3, 1, 4], shuffled=True), views_of()
    scores = scorer.scores(views, texts)
    for image in range(3):
        contributions = scorer.contributions({kind: rows[image] for kind, rows in views.items()}, texts)
        assert contributions.parts.shape == (8, 10)
        assert contributions.views == (("whole", 0), *(("random", index) for index in range(7)))
        assert torch.allclose(contributions.scores(4), scores[image], rtol=1e-12, atol=1e-14)
        assert torch.allclose(contributions.by_view(4).sum(0), scores[image], rtol=1e-12, atol=1e-14)


def test_the_whole_image_carries_nothing_in_wca() -> None:
    views = {kind: rows[0] for kind, rows in views_of().items()}
    turned = {"random": views["random"], "whole": views["whole"]}
    texts = texts_with([2, 3])
    first, second = (WeightedCosine().contributions(order, texts) for order in (views, turned))
    assert (first.parts[0] == 0).all()
    assert torch.equal(first.parts[1:], second.parts[:7])
    assert second.views[-1] == ("whole", 0)


@pytest.mark.parametrize("scorer", [MTA(), Zero(), *STREAMS], ids=lambda scorer: scorer.key()["matcher"])
def test_methods_that_are_no_sums_have_no_parts(scorer: Scorer) -> None:
    assert not isinstance(scorer, AdditiveScorer)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_text_without_direction_is_named(bad: float) -> None:
    features = torch.ones(5, 4)
    features[3] = bad
    class_index = torch.tensor([0, 0, 1, 1, 2])
    with pytest.raises(ModelError, match="text 3 of 5, of class 1,"):
        ClassTextFeatures(features, class_index, torch.ones(3, 4))
    with pytest.raises(ModelError, match="text 3 of 5, of class 'owl',"):
        ClassTextFeatures.from_raw(features, class_index, torch.ones(3, 4), ["cat", "owl", "fox"])
    with pytest.raises(ModelError, match="text 3 of 5, of class 1,"):
        soft(torch.ones(1, 2, 4), features, class_index, 3)


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_a_view_without_direction_is_named_by_soft_matching(bad: float) -> None:
    views = torch.ones(2, 3, 4)
    views[1, 2] = bad
    with pytest.raises(ModelError, match="view 2 of image 1 "):
        soft(views, torch.ones(2, 4), torch.tensor([0, 1]), 2)


@pytest.mark.parametrize("scorer", [*SCORERS, Zero()], ids=lambda scorer: scorer.key()["matcher"])
def test_a_view_that_is_not_finite_is_named(scorer: Scorer) -> None:
    views = views_of()
    views["random"][1, 4, 0] = float("nan")
    with pytest.raises(ModelError, match="view 4 of kind 'random' of image 1 "):
        scorer.scores(views, texts_with([2, 2]))


def test_a_class_without_a_text_is_named() -> None:
    with pytest.raises(UsageError, match="class 1 has no text"):
        ClassTextFeatures(torch.ones(2, 4), torch.tensor([0, 2]), torch.ones(3, 4))
    with pytest.raises(UsageError, match="class 'owl' has no text"):
        ClassTextFeatures.from_raw(torch.ones(2, 4), torch.tensor([0, 2]), torch.ones(3, 4), ["cat", "owl", "fox"])
    with pytest.raises(UsageError, match="belongs to class 3"):
        ClassTextFeatures(torch.ones(2, 4), torch.tensor([0, 3]), torch.ones(3, 4))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_cannot_work_is_refused(temperature: float) -> None:
    with pytest.raises(UsageError, match="temperature"):
        SoftMatch(temperature)
    with pytest.raises(UsageError, match="temperature"):
        soft(torch.ones(1, 1, 4), torch.ones(1, 4), torch.tensor([0]), 1, temperature)


def test_shapes_that_do_not_fit_are_refused() -> None:
    texts = texts_with([2, 2])
    with pytest.raises(UsageError, match="cannot be matched"):
        soft(torch.ones(1, 0, 32), texts.features, texts.class_index, 2)
    with pytest.raises(UsageError, match="cannot be matched"):
        soft(torch.ones(1, 3, 16), texts.features, texts.class_index, 2)
    with pytest.raises(UsageError, match="no views"):
        SoftMatch().scores({}, texts)


def test_wca_says_which_views_it_lacks() -> None:
    texts, views = texts_with([2, 2]), views_of()
    with pytest.raises(UsageError, match="needs the full image"):
        WeightedCosine().scores({"random": views["random"]}, texts)
    with pytest.raises(UsageError, match="needs crops"):
        WeightedCosine().scores({"whole": views["whole"]}, texts)


def test_mta_needs_five_views_and_survives_equal_ones() -> None:
    texts = texts_with([1, 1, 1])
    with pytest.raises(UsageError, match="4 views"):
        MTA().scores({"random": vectors(5, 2, 4, 32)}, texts)
    same = vectors(5, 2, 1, 32).expand(2, 9, 32)
    got = MTA().scores({"random": same}, texts)
    assert torch.allclose(got, 100 * same[:, 0] @ texts.features.T)


def test_mta_of_a_batch_is_that_of_each_image() -> None:
    texts, views = texts_with([1] * 6), vectors(5, 5, 20, 32)
    batch = MTA().scores({"random": views}, texts)
    single = torch.cat([MTA().scores({"random": image[None]}, texts) for image in views])
    assert torch.allclose(batch, single, rtol=1e-10)


def test_zero_counts_a_certain_view_whose_probabilities_underflow() -> None:
    logits = torch.zeros(10, 3)
    logits[7, 2] = 1000.0
    logits[:7, 0], logits[8:, 0] = 1.0, 1.0
    assert zero_share(logits) == [2.0, 0.0, 1.0]
    with pytest.raises(UsageError, match="0 of 2 views"):
        Zero().scores({"whole": vectors(1, 1, 2, 32)}, texts_with([1, 1]))


def zero_share(logits: Tensor) -> list[float]:
    from abs_classify.methods.baselines.zero import zero_votes

    return zero_votes(logits).tolist()


@pytest.mark.parametrize("scorer", STREAMS, ids=lambda scorer: scorer.key()["matcher"])
def test_a_stream_depends_on_what_came_before_and_starts_afresh(scorer: TDA) -> None:
    texts, views = texts_with([1] * 5), {"whole": vectors(8, 30, 1, 32)}
    first = run_stream(scorer, views, texts)
    assert torch.equal(first, run_stream(scorer, views, texts))
    turned = run_stream(scorer, {"whole": views["whole"].flip(0)}, texts).flip(0)
    assert float((first - turned).abs().max()) > 1e-6
    with pytest.raises(UsageError, match="0 images"):
        scorer.start(texts, 0)


@pytest.mark.parametrize("scorer", STREAMS, ids=lambda scorer: scorer.key()["matcher"])
def test_a_stream_runs_with_one_class(scorer: TDA) -> None:
    scores = run_stream(scorer, {"whole": vectors(8, 4, 1, 32)}, texts_with([2]))
    assert scores.shape == (4, 1)
    assert scores.isfinite().all()


def test_onzeta_refuses_more_images_than_it_was_told() -> None:
    state = OnZeta().start(texts_with([1, 1]), 1)
    OnZeta().step(state, {"whole": vectors(8, 1, 32)})
    with pytest.raises(UsageError, match="started for 1 images"):
        OnZeta().step(state, {"whole": vectors(8, 1, 32)})
