"""ZERO: the numbers of the public codes, within the tolerances that came with them, and its limits."""

from __future__ import annotations

import pytest
import torch
from feature_vectors import texts_with, vectors
from golden_baselines import DOUBLE, both, inputs, load, split, table
from parity import within
from torch import Tensor

from abs_classify.methods.baselines.zero import TieBreak, Zero, zero_votes
from abs_core.errors import UsageError


@pytest.mark.golden
@both
@pytest.mark.parametrize(("tie_break", "ending"), [("tta-vlm", ""), ("upstream", "_upstream")])
def test_zero(tie_break: TieBreak, ending: str, dtype: torch.dtype) -> None:
    def agrees_exactly(name: str, got: Tensor) -> bool:
        precision = "float64" if dtype == DOUBLE else "float32"
        want = torch.tensor(load("zero")[name]).to(dtype)
        return within(f"baselines, {precision}", f"zero {name}", float((got - want).abs().max()), 0)

    assert agrees_exactly(
        f"votes{ending}", Zero(tie_break=tie_break).scores(split(inputs("views", dtype)), table(dtype))
    )
    ties = torch.stack([zero_votes(logits, 0.3, tie_break) for logits in inputs("zero_tie_logits", dtype)])
    assert agrees_exactly(f"tie_votes{ending}", ties)


@pytest.mark.golden
@pytest.mark.parametrize("number", range(5))
def test_zero_own_tie_break_gives_the_vote_to_a_tied_class(number: int) -> None:
    logits, theirs = inputs("zero_tie_logits", DOUBLE)[number], torch.tensor(load("zero")["tie_votes"][number])
    kept = torch.special.entr(torch.softmax(logits, 1)).sum(1).argsort()[:3]
    before = torch.bincount(logits[kept].argmax(1), minlength=5)
    votes = zero_votes(logits)
    if number in (2, 4):
        # the cases that no remaining view solves, where both public codes may raise an untied class
        assert before[(votes - before).argmax()] == before.max()
        assert votes.sum() == before.sum() + 1
    else:
        assert votes.tolist() == theirs.tolist()


def test_zero_counts_a_certain_view_whose_probabilities_underflow() -> None:
    logits = torch.zeros(10, 3)
    logits[7, 2] = 1000.0
    logits[:7, 0], logits[8:, 0] = 1.0, 1.0
    assert zero_votes(logits).tolist() == [2.0, 0.0, 1.0]
    with pytest.raises(UsageError, match="1 to 2 views, got 0"):
        Zero().scores({"whole": vectors(1, 1, 2, 32)}, texts_with([1, 1]))


def logits_for(*winners: int, classes: int = 4) -> Tensor:
    """Views in the order of their certainty, each for a class."""
    certainty = torch.linspace(9, 3, len(winners))
    return certainty[:, None] * torch.nn.functional.one_hot(torch.tensor(winners), classes)


@pytest.mark.parametrize("winner", [1, 2])
def test_zero_breaks_a_tie_of_two_by_the_most_certain_view_that_helps(winner: int) -> None:
    logits = logits_for(1, 2, 2, 1, 0, winner, 3 - winner, 3 - winner)
    assert zero_votes(logits, 0.5).tolist() == [0, 2 + (winner == 1), 2 + (winner == 2), 0]


@pytest.mark.parametrize("second", [1, 2])
def test_zero_gives_a_tie_of_two_that_no_view_breaks_to_the_larger_logit(second: int) -> None:
    logits = logits_for(1, 2, 0, 3)
    logits[2, second] = 2.0
    assert zero_votes(logits, 0.5).tolist() == [0, 1 + (second == 1), 1 + (second == 2), 0]


def test_zero_leaves_a_tie_where_every_view_has_voted() -> None:
    assert zero_votes(logits_for(1, 2), 1.0).tolist() == [0, 1, 1, 0]
