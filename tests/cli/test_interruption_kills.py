"""Long commands killed now and then; `make test-kills` kills each of them, and more of them, more often."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kill_bench import KillBench, opened_bench
from kill_image_scenarios import Eval, Label
from kill_scenarios import Scenario
from kill_text_scenarios import FilterByText, Generation, ModelPull, Pull, Push

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KILLS: dict[type[Scenario], int] = {Generation: 4, FilterByText: 2, Push: 3, ModelPull: 3, Label: 3, Eval: 3}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillBench]:
    with opened_bench(tmp_path_factory.mktemp("kills")) as opened:
        yield opened


@pytest.mark.parametrize("kind", KILLS, ids=lambda kind: kind.__name__)
def test_killed_and_resumed_it_comes_to_the_same(bench: KillBench, kind: type[Scenario]) -> None:
    if kind is Generation:
        pytest.importorskip("openai")
    report = bench.kill(kind, KILLS[kind], seed=1)
    assert report.kills.total() == KILLS[kind]


def test_a_bundle_is_pulled(bench: KillBench) -> None:
    assert bench.kill(Pull, 2, seed=1, **bench.pushed()).kills.total() == 2
