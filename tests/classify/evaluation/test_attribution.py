"""How a gain is divided among views, texts and matching: what must add up, and what is known in advance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from abs_classify.evaluation.attribution import (
    CELLS,
    FACTORS,
    GainAttribution,
    attribute_right,
    effect_weights,
    shapley_weights,
)
from abs_classify.evaluation.metrics import PairedComparison
from abs_classify.evaluation.significance import crossed_difference
from abs_core.errors import UsageError


def of_random(seed: int, *, seeds: int = 1, images: int = 60) -> np.ndarray:
    """Cells that get better with every factor, on images that are more or less hard."""
    generator = np.random.default_rng(seed)
    strength = np.array(CELLS) @ [0.1, 0.2, 0.05]
    hard = generator.random((1, seeds, images))
    noise = 0.1 * generator.standard_normal((8, seeds, images))
    return hard + noise < 0.3 + strength[:, None, None]


def by_factor(attribution: GainAttribution) -> dict[str, float]:
    return {entry.factor: entry.estimate.value for entry in attribution.contributions}


@pytest.mark.parametrize("seeds", [1, 3])
def test_contributions_add_up_to_the_total_gain(seeds: int) -> None:
    right = of_random(1, seeds=seeds)
    attribution = attribute_right(right, {})
    assert attribution.total.value == pytest.approx(right[-1].mean() - right[0].mean(), abs=1e-12)
    assert sum(by_factor(attribution).values()) == pytest.approx(attribution.total.value, abs=1e-12)
    assert attribution.total.is_clear
    assert sum(entry.share or 0 for entry in attribution.contributions) == pytest.approx(1, abs=1e-12)
    for entry in attribution.contributions:
        assert entry.least <= entry.estimate.value <= entry.most


def test_a_contribution_is_the_mean_over_all_orders_by_its_definition() -> None:
    top1 = np.random.default_rng(2).random(8)
    views, texts, matching = shapley_weights() @ top1
    none, m, t, tm, v, vm, vt, full = top1
    assert views == pytest.approx((v - none) / 3 + (vt - t) / 6 + (vm - m) / 6 + (full - tm) / 3)
    assert texts == pytest.approx((t - none) / 3 + (vt - v) / 6 + (tm - m) / 6 + (full - vm) / 3)
    assert matching == pytest.approx((m - none) / 3 + (vm - v) / 6 + (tm - t) / 6 + (full - vt) / 3)


def test_the_effects_are_those_of_the_design_and_give_the_cells_back() -> None:
    top1 = np.random.default_rng(3).random(8)
    effects = {factors: float(weights @ top1) for factors, weights in effect_weights().items()}
    none, m, t, tm, v, vm, vt, full = top1
    assert effects["views",] == pytest.approx((v + vm + vt + full - none - m - t - tm) / 4)
    assert effects["views", "texts"] == pytest.approx(((vt + full - t - tm) / 2 - (v + vm - none - m) / 2) / 2)
    signs = 2 * np.array(CELLS) - 1
    names = list(FACTORS)
    rebuilt = top1.mean() + sum(
        effect / 2 * signs[:, [names.index(name) for name in factors]].prod(1) for factors, effect in effects.items()
    )
    assert rebuilt == pytest.approx(top1)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_gain_of_one_factor_alone_is_all_its_own(place: int) -> None:
    level = np.array(CELLS)[:, place, None, None].astype(bool)
    images = np.arange(50)
    right = (images < 20) | (level & (images < 32))
    attribution = attribute_right(np.broadcast_to(right, (8, 1, 50)), {})
    expected = [0.0, 0.0, 0.0]
    expected[place] = 12 / 50
    assert list(by_factor(attribution).values()) == pytest.approx(expected)
    assert [entry.share for entry in attribution.contributions] == pytest.approx([float(n == place) for n in range(3)])
    clear = [entry.factors for entry in attribution.effects if entry.estimate.is_clear]
    assert clear == [(list(FACTORS)[place],)]


def test_what_two_factors_win_only_together_is_halved_between_them() -> None:
    levels = np.array(CELLS).astype(bool)
    together = (levels[:, 0] & levels[:, 2])[:, None, None]
    images = np.arange(60)
    attribution = attribute_right(np.broadcast_to((images < 10) | (together & (images < 34)), (8, 1, 60)), {})
    assert by_factor(attribution) == pytest.approx({"views": 0.2, "texts": 0.0, "matching": 0.2})
    views = attribution.contributions[0]
    assert (views.least, views.most) == pytest.approx((0.0, 0.4))
    effects = {entry.factors: entry.estimate for entry in attribution.effects}
    assert effects["views", "matching"].value == pytest.approx(0.2)
    assert effects["views", "matching"].is_clear
    assert effects["texts",].value == 0


def test_nothing_is_claimed_of_a_gain_that_is_not_clear() -> None:
    right = np.broadcast_to(np.arange(40) < 20, (8, 1, 40)).copy()
    right[-1, 0, :21] = True
    attribution = attribute_right(right, {"shuffle": right[0]})
    assert attribution.total.value == pytest.approx(1 / 40)
    assert not attribution.total.is_clear
    assert {entry.share for entry in attribution.contributions} == {None}
    assert attribution.controls[0].share is None
    assert attribution.visible > 1 / 40


def test_the_order_of_the_images_changes_nothing() -> None:
    right = of_random(4, seeds=2)
    order = np.random.default_rng(5).permutation(right.shape[2])
    one = attribute_right(right, {"swap": right[3]})
    other = attribute_right(right[:, :, order], {"swap": right[3][:, order]})
    for first, second in zip(one.contributions, other.contributions, strict=True):
        assert first.estimate.low == pytest.approx(second.estimate.low, abs=1e-12)
        assert first.estimate.p_value == pytest.approx(second.estimate.p_value, abs=1e-12)
    assert one.controls[0].meaning.value == pytest.approx(other.controls[0].meaning.value)


def test_exchanging_two_factors_exchanges_their_contributions() -> None:
    right = of_random(6)
    exchanged = right[[CELLS.index((texts, views, matching)) for views, texts, matching in CELLS]]
    one, other = by_factor(attribute_right(right, {})), by_factor(attribute_right(exchanged, {}))
    assert (one["views"], one["texts"], one["matching"]) == (other["texts"], other["views"], other["matching"])


def test_intervals_of_one_seed_are_those_of_newcombe_and_student() -> None:
    right = of_random(7)
    attribution = attribute_right(right, {})
    pair = PairedComparison.of_images("full", right[-1, 0], "none", right[0, 0])
    total = attribution.total
    assert (total.low, total.high, total.p_value) == (pair.low, pair.high, pair.p_value)
    contrast = np.tensordot(shapley_weights()[1], right[:, 0], axes=1)
    expected = stats.ttest_1samp(contrast, 0)
    interval = expected.confidence_interval(0.95)
    texts = attribution.contributions[1].estimate
    assert (texts.low, texts.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    # corrected over the three: never below the p-value of the test alone
    assert expected.pvalue <= texts.p_value <= 3 * expected.pvalue


def test_intervals_of_several_seeds_hold_for_other_seeds_too() -> None:
    right = of_random(8, seeds=3, images=300)
    attribution = attribute_right(right, {"waffle": right[5]})
    contrast = np.tensordot(shapley_weights()[0], right, axes=1)
    mean, low, high, _ = crossed_difference(contrast)
    views = attribution.contributions[0].estimate
    assert (views.value, views.low, views.high) == pytest.approx((mean, low, high), abs=1e-12)
    # the control is the cell with class names, so nothing of the gain remains
    control = attribution.controls[0]
    assert (control.remaining.value, control.share) == (0, 0)
    assert control.meaning.value == pytest.approx(attribution.descriptions.value)


def test_arrays_that_cannot_be_paired_are_refused() -> None:
    right = of_random(9)
    with pytest.raises(UsageError, match="8 cells"):
        attribute_right(right[:7], {})
    with pytest.raises(UsageError, match="8 cells"):
        attribute_right(right, {"swap": right[0][:, 1:]})
    with pytest.raises(UsageError, match="two images or more, got 1 and 1"):
        attribute_right(right[:, :, :1], {})
