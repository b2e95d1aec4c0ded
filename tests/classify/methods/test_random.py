"""Random numbers: frozen values, independence, uniformity, permutations."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from abs_classify.methods.random import (
    RANDOM_SCHEME,
    inverse_cdf,
    random_cycle,
    random_permutation,
    scale_to_integers,
    shuffled_order,
    uniform_numbers,
)
from abs_core.canonical import canonical_json

IMAGE = "sha256:" + "0" * 64


def test_frozen_values_of_the_generator() -> None:
    # a change of these numbers changes every result that was ever stored; then RANDOM_SCHEME must change too
    assert RANDOM_SCHEME == "sha256-53bit-1"
    assert uniform_numbers(0, IMAGE, "box", 2, 3).tolist() == [
        [0.22710240732349052, 0.7492815583496829, 0.21294958219749283],
        [0.8098413599277772, 0.30188066062964025, 0.6386071900674284],
    ]
    assert uniform_numbers(7, IMAGE, "window", 1, 5).tolist() == [
        [0.46342695212816776, 0.44810362884425026, 0.8231183163166408, 0.9316705030313257, 0.5097463018237316]
    ]


def test_a_number_is_the_hash_of_what_the_docstring_says() -> None:
    block = hashlib.sha256(canonical_json([RANDOM_SCHEME, 5, 'an "odd" é id', "box", 3, 1]).encode()).digest()
    words = [int.from_bytes(block[at : at + 8], "big") >> 11 for at in range(0, 32, 8)]
    np.testing.assert_array_equal(
        uniform_numbers(5, 'an "odd" é id', "box", 4, 8)[3, 4:], [word / 2**53 for word in words]
    )


def test_seed_image_and_kind_change_the_numbers() -> None:
    base = uniform_numbers(0, "a", "box", 8, 3)
    for other in (
        uniform_numbers(1, "a", "box", 8, 3),
        uniform_numbers(0, "b", "box", 8, 3),
        uniform_numbers(0, "a", "window", 8, 3),
    ):
        assert not (other == base).any()


def test_uniforms_are_uniform_and_independent() -> None:
    drawn = uniform_numbers(11, IMAGE, "box", 20_000, 3)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for column in drawn.T:
        assert chi_square(np.bincount((column * 50).astype(int), minlength=50), np.full(50, 1 / 50)) < bound(49)
    pairs = (drawn[:, 0] * 10).astype(int) * 10 + (drawn[:, 1] * 10).astype(int)
    assert chi_square(np.bincount(pairs, minlength=100), np.full(100, 1 / 100)) < bound(99)


def test_positions_follow_their_probabilities() -> None:
    probability = np.random.default_rng(3).dirichlet(np.ones(20))
    positions = inverse_cdf(uniform_numbers(2, IMAGE, "box", 20_000, 1)[:, 0], probability)
    assert chi_square(np.bincount(positions, minlength=20), probability) < bound(19)


def test_crop_sizes_are_uniform_with_both_ends() -> None:
    drawn = scale_to_integers(uniform_numbers(3, IMAGE, "window", 20_000, 1)[:, 0], 8, 12)
    assert set(drawn) == {8, 9, 10, 11, 12}
    assert chi_square(np.bincount(drawn - 8, minlength=5), np.full(5, 0.2)) < bound(4)


def chi_square(counts: np.ndarray, probability: np.ndarray) -> float:
    expected = probability * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def bound(freedom: int) -> float:
    """Mean of the chi-square distribution plus eight standard deviations."""
    return freedom + 8 * (2 * freedom) ** 0.5


def test_the_ends_of_the_unit_interval() -> None:
    ends = np.array([0.0, 1 - 2**-53])
    assert scale_to_integers(ends, 3, 7).tolist() == [3, 7]
    assert scale_to_integers(ends, 0, 10**9 - 1).tolist() == [0, 10**9 - 1]
    assert inverse_cdf(ends, np.array([0.0, 0.25, 0.75, 0.0])).tolist() == [1, 2]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 257])
def test_permutation_and_cycle(n: int) -> None:
    assert sorted(random_permutation(0, "name", n)) == list(range(n))
    order = random_cycle(0, "name", n)
    assert sorted(order) == list(range(n))
    place, steps = int(order[0]), 1
    while place != 0:
        place, steps = int(order[place]), steps + 1
    assert steps == n


def test_an_order_follows_from_seed_and_contents_alone() -> None:
    ids = [f"sha256:{number:064x}" for number in range(40)]
    order = [ids[position] for position in shuffled_order(3, ids)]
    assert sorted(order) == ids
    assert order == [ids[::-1][position] for position in shuffled_order(3, ids[::-1])]
    assert order != [ids[position] for position in shuffled_order(4, ids)]
    assert [image for image in order if image != ids[5]] == [
        (ids[:5] + ids[6:])[position] for position in shuffled_order(3, ids[:5] + ids[6:])
    ]


def test_copies_of_an_image_are_spread_over_the_order() -> None:
    order = shuffled_order(0, [IMAGE] * 1000)
    assert sorted(order) == list(range(1000))
    assert (np.diff(order) == 1).mean() < 0.1
    assert shuffled_order(0, []).tolist() == []


def test_every_cycle_of_four_is_as_likely_as_the_others() -> None:
    seen: dict[tuple[int, ...], int] = {}
    for seed in range(3000):
        order = tuple(int(x) for x in random_cycle(seed, "name", 4))
        seen[order] = seen.get(order, 0) + 1
    assert len(seen) == 6
    assert chi_square(np.array(list(seen.values())), np.full(6, 1 / 6)) < bound(5)
