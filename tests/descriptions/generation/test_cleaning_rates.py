"""Cleaning on replies in the manner of large models: the rates that the docs state, and no worse."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "cleaning.py"
    spec = importlib.util.spec_from_file_location("cleaning_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("part", ["tuning", "held out", "held out later"])
def test_lost_junk_and_no_description(benchmark: ModuleType, part: str) -> None:
    rates = benchmark.measure_cleaning(reply for reply in benchmark.read_replies() if reply["part"] == part)
    assert rates.replies >= 60
    assert rates.worth_keeping >= 70
    lost, junk, no_description = rates.shares
    assert lost <= 0.03, rates.lost
    assert junk <= 0.02, rates.junk
    assert no_description <= 0.03, rates.no_description


def test_a_rate_counts_what_its_name_says(benchmark: ModuleType) -> None:
    def measured(*keep: str) -> tuple[int, int, int]:
        reply = {"class": "rocket", "finish_reason": "stop", "keep": keep}
        rates = benchmark.measure_cleaning([reply | {"reply": "A rocket is a tall white cylinder with fins."}])
        return len(rates.lost), len(rates.junk), len(rates.no_description)

    assert measured("A rocket is a tall white cylinder with fins.") == (0, 0, 0)
    assert measured("A rocket is a tall white cylinder") == (0, 1, 0)
    assert measured("A rocket has a pointed nose.") == (1, 0, 1)
    assert measured() == (0, 0, 1)
