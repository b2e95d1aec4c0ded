"""The memory of stream methods: who has a place, and who takes whose."""

from __future__ import annotations

import pytest
import torch

from abs_classify.methods.baselines.memory import Memory, entropy_of


def filled() -> Memory:
    memory = Memory(2, torch.zeros(3))
    for number, entropy in ((1.0, 0.5), (2.0, 0.7)):
        memory.offer(0, torch.full((3,), number), entropy)
    return memory


def test_a_newcomer_that_is_as_certain_as_the_least_certain_does_not_enter() -> None:
    memory = filled()
    assert memory.offer(0, torch.full((3,), 9.0), 0.7) is None
    assert memory.features[:, 0].tolist() == [1, 2]
    assert memory.offer(0, torch.full((3,), 9.0), float("nan")) is None


def test_a_more_certain_one_takes_the_place_of_the_least_certain() -> None:
    memory = filled()
    assert memory.offer(0, torch.full((3,), 9.0), 0.6) == 1
    assert memory.features[:, 0].tolist() == [1, 9]
    assert memory.slots(0) == [0, 1]
    assert memory.offer(0, torch.full((3,), 8.0), 0.1) == 1
    assert memory.slots(0) == [1, 0]
    assert memory.entropy(1) == 0.1


def test_of_equally_uncertain_ones_the_younger_goes() -> None:
    memory = Memory(2, torch.zeros(3))
    for number in (1.0, 2.0, 3.0):
        memory.offer(0, torch.full((3,), number), 0.5 if number < 3 else 0.4)
    assert memory.features[:, 0].tolist() == [1, 3]


def test_classes_have_places_of_their_own_in_a_table_that_grows() -> None:
    memory = Memory(3, torch.zeros(2))
    for number in range(30):
        memory.offer(number % 10, torch.full((2,), float(number)), 1.0)
    assert memory.count == 30
    assert memory.features[:, 0].tolist() == list(range(30))
    assert memory.class_index.tolist() == [number % 10 for number in range(30)]
    assert all(memory.full(position) for position in range(10))
    assert not memory.full(10)


def test_the_entropy_of_a_certain_prediction_is_zero_without_a_floor() -> None:
    assert entropy_of(torch.tensor([1.0, 0.0]), 0) == 0
    assert entropy_of(torch.tensor([0.5, 0.5]), 0) == pytest.approx(0.6931472)
    assert entropy_of(torch.tensor([0.5, 0.5]), 0.5) == pytest.approx(0.0)
