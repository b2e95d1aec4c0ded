"""Stopping rules: predictions, Student's distribution, invariances, calibration."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np
import pytest

from abs_classify.methods.adaptive import (
    CalibratedRule,
    GuaranteedRule,
    NormalRule,
    PartialScores,
    StoppingRule,
    critical_values,
    fewest_images,
    lead_certainty,
    looks,
)
from abs_core.errors import UsageError


def random_scores(images: int = 40, views: int = 20, classes: int = 5, *, seed: int = 0) -> PartialScores:
    """Views of images whose classes are hard to tell apart."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 1, (images, 1, classes))
    known = rng.normal(0, 2.0, (images, classes))
    parts = means + rng.normal(0, 1, (images, views, classes))
    return PartialScores(known, parts, views, float(np.ptp(parts, axis=-1).max()))


def rules(agreement: float) -> list[StoppingRule]:
    return [NormalRule(agreement), GuaranteedRule(agreement), CalibratedRule(agreement, 10_000, (2.0,) * 5000)]


def test_looks_come_after_every_fourth_view_and_the_last() -> None:
    assert looks(50) == (4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 50)
    assert looks(4) == (4,)
    assert looks(3) == (3,)


def test_the_prediction_of_all_views_is_their_sum() -> None:
    full = random_scores()
    want = full.known + full.views.sum(1)
    assert np.allclose(full.predicted, want, rtol=1e-13)
    assert np.array_equal(full.leaders, want.argmax(1))
    assert np.allclose(full.first(5).predicted, full.known + 4 * full.views[:, :5].sum(1))


def test_confidence_is_its_definition() -> None:
    partial = random_scores().first(8)
    for image in range(len(partial.known)):
        assert lead_certainty(partial)[image] == pytest.approx(_confidence(partial, image), rel=1e-10)


def _confidence(partial: PartialScores, image: int) -> float:
    """Once more, in loops over rivals."""
    views, (n, total) = partial.views[image], (partial.count, partial.total)
    sums = partial.known[image] + views.mean(0) * total
    leader = int(sums.argmax())
    unseen = views.mean(0).max() - views.mean()
    values = []
    for rival in set(range(views.shape[1])) - {leader}:
        leads = views[:, leader] - views[:, rival]
        variance = (leads.var(ddof=1) * (n - 1) + unseen**2) / n
        error = math.sqrt(variance * ((total - n) + (total - n) ** 2 / n))
        t = (sums[leader] - sums[rival]) / error
        values.append((8 * n + 1) / (8 * n + 3) * math.sqrt(n * math.log(1 + t * t / n)))
    return min(values)


@pytest.mark.parametrize(
    ("freedom", "quotient", "probability"),
    [(4, 2.1318, 0.95), (4, 3.7469, 0.99), (8, 2.8965, 0.99), (8, 4.5008, 0.999), (20, 2.5280, 0.99)],
)
def test_the_score_of_a_quotient_has_the_probability_of_students_distribution(
    freedom: int, quotient: float, probability: float
) -> None:
    # two classes; the views make the wanted quotient of margin and error exactly
    total = 50
    error = math.sqrt((total - freedom) * total / freedom)
    views = np.zeros((1, freedom, 2))
    views[0, :, 0] = np.tile([2.0, 0.0], freedom // 2)
    variance = (freedom * 1.0 + 0.5**2) / freedom
    known = np.array([[quotient * error * math.sqrt(variance) - total, 0.0]])
    got = lead_certainty(PartialScores(known, views, total, 3.0))[0]
    assert got == pytest.approx(NormalDist().inv_cdf(probability), rel=1e-2)


def test_confidence_is_a_tie_or_certainty_at_the_ends() -> None:
    views = np.zeros((3, 4, 2))
    views[2, :, 0] = 1.0
    known = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 4 * 2.5]])
    partial = PartialScores(known, views, 10, 1.0)
    assert lead_certainty(partial).tolist() == [0.0, math.inf, 0.0]
    assert not NormalRule(0.6).settled(partial)[0]
    assert np.isinf(lead_certainty(dataclasses.replace(partial, total=4))).all()


def test_alike_views_are_not_certainty() -> None:
    """Four equal views could hide a twelfth that is not: about 99.3 % is the most that they can tell of 50."""
    views = np.zeros((1, 8, 300))
    views[..., 7] = 9.0
    early = PartialScores(np.zeros((1, 300)), views[:, :4], 50, 33.0)
    assert NormalRule(0.99).settled(early)[0]
    assert not NormalRule(0.995).settled(early)[0]
    assert NormalRule(0.999).settled(dataclasses.replace(early, views=views))[0]


@pytest.mark.parametrize("rule", rules(0.9), ids=lambda rule: str(rule.key()["rule"]))
def test_decisions_do_not_depend_on_units_offsets_or_other_images(rule: StoppingRule) -> None:
    partial = random_scores(200, 40, seed=3).first(16)
    settled = rule.settled(partial)
    assert 0 < settled.sum() < len(settled)
    scaled = PartialScores(partial.known * 7, partial.views * 7, partial.total, partial.margin_bound * 7)
    assert np.array_equal(rule.settled(scaled), settled)
    moved = dataclasses.replace(partial, known=partial.known + 3, views=partial.views - 2)
    assert np.array_equal(rule.settled(moved), settled)
    alone = [
        rule.settled(PartialScores(partial.known[i : i + 1], partial.views[i : i + 1], 40, partial.margin_bound))
        for i in (0, 7)
    ]
    assert [bool(row[0]) for row in alone] == settled[[0, 7]].tolist()


@pytest.mark.parametrize("name", ["normal", "guaranteed"])
def test_more_agreement_takes_more_views(name: str) -> None:
    partial = random_scores(400, 40, seed=5).first(16)
    shares = [
        np.mean({rule.key()["rule"]: rule for rule in rules(agreement)}[name].settled(partial))
        for agreement in (0.5, 0.9, 0.99, 0.999)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


@pytest.mark.parametrize("rule", rules(0.99), ids=lambda rule: str(rule.key()["rule"]))
def test_after_all_views_every_image_is_settled(rule: StoppingRule) -> None:
    assert rule.settled(random_scores()).all()


@pytest.mark.parametrize("agreement", [0.0, 1.0, -0.5, 99.0, math.nan])
def test_an_agreement_is_a_probability(agreement: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1, got"):
        NormalRule(agreement)
    with pytest.raises(UsageError, match="between 0 and 1, got"):
        GuaranteedRule(agreement)


def test_critical_values_are_where_disagreement_ends() -> None:
    full = random_scores(60, 24, seed=7)
    critical = critical_values(full)
    assert 0 < (critical > 0).sum() < 60
    for image in range(60):
        single = PartialScores(full.known[image : image + 1], full.views[image : image + 1], 24, full.margin_bound)
        values = [lead_certainty(single.first(count))[0] for count in looks(24)[:-1]]
        wrong = [t for t in [0.0, *values, *np.nextafter(values, -1)] if _label(single, t) != full.leaders[image]]
        assert all(t < critical[image] for t in wrong)
        assert not wrong or _label(single, float(np.nextafter(critical[image], -1))) != full.leaders[image]
    with pytest.raises(UsageError, match="all 24 views"):
        critical_values(full.first(8))


def _label(single: PartialScores, threshold: float) -> int:
    for count in looks(single.total):
        if lead_certainty(single.first(count))[0] > threshold:
            return int(single.first(count).leaders[0])
    raise AssertionError("all views settle it")


def test_a_calibration_permits_as_many_disagreements_as_its_images_allow() -> None:
    critical = tuple(np.linspace(1, 3, 21).tolist())
    # (k + 1) / (n + 1) <= 0.01: none of 100 images, 9 of 999
    assert CalibratedRule(0.99, 100, critical).threshold == 3.0
    assert CalibratedRule(0.99, 999, critical).threshold == pytest.approx(2.1)
    assert CalibratedRule(0.9, 999, critical).threshold == 0.0
    assert CalibratedRule(0.999, 999, critical).threshold == 3.0


@pytest.mark.parametrize(("agreement", "images"), [(0.9, 100), (0.99, 100), (0.995, 199), (0.999, 999)])
def test_a_calibration_on_too_few_images_is_refused(agreement: float, images: int) -> None:
    assert fewest_images(agreement) == images
    CalibratedRule(agreement, images, ())
    with pytest.raises(UsageError, match=f"at least {images} images"):
        CalibratedRule(agreement, images - 1, ())


def test_a_calibrated_rule_keeps_its_agreement_on_other_images() -> None:
    """In expectation over calibrations; the threshold is the least with that, so agreement is near it."""
    images = random_scores(6000, 24, seed=11)
    critical = critical_values(images)
    rng = np.random.default_rng(1)
    rates = []
    for _ in range(200):
        order = rng.permutation(6000)
        rule = CalibratedRule(0.9, 300, tuple(critical[order[:300]].tolist()))
        rates.append(np.mean(critical[order[300:]] > rule.threshold))
    assert 0.09 < np.mean(rates) <= 0.1
