"""Criteria: numbers out of their range."""

from __future__ import annotations

from typing import Any

import pytest

from abs_core.errors import UsageError
from abs_descriptions.filtering.criteria import Criteria, TextCriteria


@pytest.mark.parametrize(
    "wrong",
    [
        {"near_duplicate": 0.0},
        {"near_duplicate": 1.5},
        {"off_topic": -1.0},
        {"off_topic": float("nan")},
        {"nearer": -0.1},
        {"keep": 0},
        {"least": 0},
        {"diversity": 1.1},
    ],
)
def test_criteria_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Criteria(**wrong)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_a_similarity_of_texts_out_of_range(limit: float) -> None:
    with pytest.raises(UsageError, match=r"near_duplicate must be in \(0, 1\], got .*similarity"):
        TextCriteria(limit)
    assert TextCriteria(1.0).near_duplicate == 1
