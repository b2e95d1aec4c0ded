"""Paired tests over images and draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from prediction_samples import make_pass, make_predictions

from abs_classify.evaluation.metrics import PairedComparison
from abs_classify.evaluation.paired_tests import (
    PairedTest,
    align_draws,
    common_images,
    corrected_p_values,
    power_note,
)
from abs_classify.evaluation.significance import crossed_difference, holm, smallest_difference
from abs_core.errors import ResultError, UsageError

NUMBERS = np.random.default_rng(5)
FIRST, SECOND = NUMBERS.random((4, 60)) < 0.8, NUMBERS.random((4, 60)) < 0.5


def test_one_draw_is_tested_as_two_methods_of_a_run_are() -> None:
    test = PairedTest.of(FIRST[0], SECOND[0])
    expected = PairedComparison.of_images("a", FIRST[0], "b", SECOND[0])
    for name in ("images", "both", "first_only", "second_only", "neither", "difference", "low", "high", "p_value"):
        assert getattr(test, name) == getattr(expected, name)
    assert test.conclusive == expected.conclusive
    assert test.smallest == smallest_difference(60, (test.first_only + test.second_only) / 60)


def test_several_draws_are_crossed_with_images() -> None:
    test = PairedTest.of(FIRST, SECOND)
    expected = crossed_difference(FIRST.astype(float) - SECOND)
    assert (test.difference, test.low, test.high, test.p_value) == expected
    assert (test.draws, test.both + test.first_only + test.second_only + test.neither) == (4, 60)
    assert test.difference == pytest.approx((test.first_only - test.second_only) / 60)
    assert "crossed" in test.to_dict()["test"]


def test_a_method_without_draws_says_the_same_with_every_draw() -> None:
    assert PairedTest.of(FIRST, SECOND[:1]) == PairedTest.of(FIRST, np.repeat(SECOND[:1], 4, axis=0))


@pytest.mark.parametrize(("first", "second"), [((2, 5), (3, 5)), ((1, 5), (1, 6)), ((1, 0), (1, 0))])
def test_what_cannot_be_paired_is_refused(first: tuple[int, int], second: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="cannot be paired"):
        PairedTest.of(np.ones(first, bool), np.ones(second, bool))


def test_a_single_image_with_several_draws_shows_nothing() -> None:
    test = PairedTest.of(np.array([[True], [True]]), np.array([[False], [True]]))
    assert (test.difference, test.low, test.high, test.p_value) == (0.5, -1.0, 1.0, 1.0)


def test_p_values_are_corrected_for_the_tests_that_there_are() -> None:
    tests = [PairedTest.of(FIRST[:1], SECOND[:1]), None, PairedTest.of(FIRST[:1], FIRST[1:2])]
    corrected = corrected_p_values(tests)
    assert corrected[1] is None
    assert [corrected[0], corrected[2]] == holm([test.p_value for test in tests if test is not None])


def test_the_note_states_the_range_of_what_could_have_shown() -> None:
    tests = [PairedTest.of(FIRST[0], SECOND[0]), PairedTest.of(FIRST[0], FIRST[1])]
    sizes = sorted(f"{100 * test.smallest:.1f}" for test in tests)
    assert f"60 images with these disagreements show in four of five tries: {sizes[0]} to {sizes[1]} points" in (
        power_note(tests)
    )


def test_where_no_difference_could_have_shown_the_note_says_none() -> None:
    same = PairedTest.of(FIRST[0], FIRST[0])
    assert power_note([same]).endswith("four of five tries: none (one test, two-sided, 5 %)")
    assert " to none (" in power_note([same, PairedTest.of(FIRST[0], SECOND[0])])


def test_draws_of_one_seed_belong_together() -> None:
    passes = {seed: make_pass("abs", [0, 0], [1, 2], seed=seed) for seed in range(4)}
    mine, theirs = [passes[0], passes[1], passes[2]], [passes[1], passes[2], passes[3]]
    aligned = align_draws(mine, theirs, first_draws=True, second_draws=True)
    assert [[one.seed for one in side] for side in aligned] == [[1, 2], [1, 2]]
    aligned = align_draws(mine, theirs[2:], first_draws=True, second_draws=True)
    assert [[one.seed for one in side] for side in aligned] == [[0], [3]]
    aligned = align_draws(mine, theirs[2:], first_draws=True, second_draws=False)
    assert [len(side) for side in aligned] == [3, 1]


def test_images_pair_by_id_and_copies_in_their_order() -> None:
    first = make_predictions([0, 1, 2, 0], images=[5, 6, 7, 5])
    second = make_predictions([0, 2, 0, 1], images=[5, 7, 5, 8])
    mine, theirs = common_images(first, second)
    assert (mine.tolist(), theirs.tolist()) == ([0, 2, 3], [0, 1, 2])
    with pytest.raises(ResultError, match="same images with other labels"):
        common_images(first, make_predictions([1], images=[5]))
    renamed = replace(make_predictions([0], images=[5]), class_ids=["x", "y", "z"])
    assert common_images(first, renamed)[0].tolist() == [0]
    assert common_images(first, make_predictions([1], images=[9]))[0].tolist() == []
