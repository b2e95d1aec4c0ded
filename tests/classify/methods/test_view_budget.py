"""A budget of views: who gets the next ones, that all are given out, and that the order of images plays no part."""

from __future__ import annotations

import numpy as np
import pytest

from abs_classify.methods.adaptive import LOOK, PartialScores, lead_certainty, looks
from abs_classify.methods.view_budget import AllottedRule, next_wave, views_in_all


def spend(certainties: dict[str, float], total: int, budget: int) -> tuple[dict[str, int], int]:
    """Views of each image where its certainty grows with the root of its views, and the number of waves."""
    views, left, waves = dict.fromkeys(certainties, LOOK), budget - LOOK * len(certainties), 0
    while wave := next_wave(views, {name: certainties[name] * views[name] ** 0.5 for name in views}, total, left):
        assert all(views[name] < stop <= total and stop in looks(total) for name, stop in wave.items())
        left -= sum(stop - views[name] for name, stop in wave.items())
        views |= wave
        waves += 1
    return views, waves


def many(count: int) -> dict[str, float]:
    values = np.random.default_rng(1).gamma(1.0, 1.0, count)
    return {f"sha256:{number:05d}": float(value) for number, value in enumerate(values)}


@pytest.mark.parametrize("total", [6, 50, 64])
@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("mean", [4, 5.5, 8, 23, 49.9, 200])
def test_a_budget_is_spent_to_within_a_look(total: int, count: int, mean: float) -> None:
    budget = views_in_all(mean, count)
    views, waves = spend(many(count), total, budget)
    assert sum(views.values()) <= budget
    left = budget - sum(views.values())
    assert left < LOOK or all(seen == total for seen in views.values())
    assert waves < 40


def test_views_go_where_margins_are_small() -> None:
    images = many(400)
    views, waves = spend(images, 50, views_in_all(8, 400))
    by_certainty = sorted(images, key=images.__getitem__)
    quarters = np.array([views[name] for name in by_certainty]).reshape(4, 100).mean(1)
    assert list(quarters) == sorted(quarters, reverse=True)
    assert quarters[0] > 14
    assert quarters[3] == LOOK
    assert waves < 12


def test_the_order_of_images_plays_no_part() -> None:
    images = many(90) | {f"sha256:tie{number}": 1.0 for number in range(30)}
    shuffled = dict(sorted(images.items(), key=lambda item: hash((item[1], item[0][::-1]))))
    budget = views_in_all(9.3, len(images))
    assert spend(images, 50, budget) == spend(shuffled, 50, budget)


def test_of_equal_images_the_lower_ids_come_first() -> None:
    views, confidences = dict.fromkeys("dcba", 4), dict.fromkeys("abcd", 0.0)
    assert next_wave(views, confidences, 50, 100) == {"a": 8, "b": 8}
    assert next_wave(views, confidences, 50, 6) == {"a": 8}
    assert next_wave({"a": 48, "b": 4}, {"a": 1.0, "b": 0.0}, 50, 2) == {"a": 50}


def test_a_decimal_budget_is_not_rounded_down_by_a_view() -> None:
    assert views_in_all(7.93, 200) == 1586


def test_an_allotted_rule_stops_at_its_number_and_notes_confidence() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 8, 5))
    rule = AllottedRule({"b": 8, "c": 12})
    first = PartialScores(np.zeros((3, 5)), scores[:, :4], 50, 1.0, ["a", "b", "c"])
    assert list(rule.settled(first)) == [True, False, False]
    second = PartialScores(np.zeros((2, 5)), scores[1:], 50, 1.0, ["b", "c"])
    assert list(rule.settled(second)) == [True, False]
    assert rule.confidences == {"a": lead_certainty(first)[0], "b": lead_certainty(second)[0]}
