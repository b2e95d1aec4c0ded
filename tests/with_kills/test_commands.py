"""Long commands, killed at all kinds of crash points and at random moments: the same results, nothing done twice."""

from __future__ import annotations

import pytest
from bucket_server import Bucket, serving_s3
from kill_bench import KillBench
from kill_image_scenarios import Eval, Features, FeaturesParquet, FilterByImages, Label, Learn, Prune, Score
from kill_scenarios import Scenario
from kill_text_scenarios import FilterByText, Generation, ModelPull, Pull, Push, PushToBucket

pytestmark = [pytest.mark.faults, pytest.mark.slow]

KILLS: dict[type[Scenario], int] = {
    Generation: 40,
    Eval: 30,
    Label: 40,
    Features: 10,
    FeaturesParquet: 10,
    Score: 12,
    FilterByText: 12,
    FilterByImages: 12,
    Push: 24,
    ModelPull: 20,
}


@pytest.mark.parametrize("kind", KILLS, ids=lambda kind: kind.__name__)
def test_killed_and_resumed_it_comes_to_the_same(bench: KillBench, kind: type[Scenario]) -> None:
    if kind is Generation:
        pytest.importorskip("openai")
    bench.kill(kind, KILLS[kind])


def test_what_is_learned_and_pruned(bench: KillBench) -> None:
    bench.kill(Learn, 20, **bench.labelled(60))
    bench.kill(Prune, 10, **bench.labelled(9))


def test_bundles_are_pulled(bench: KillBench) -> None:
    bench.kill(Pull, 20, **bench.pushed())


def test_bundles_are_pushed_to_a_bucket(bench: KillBench) -> None:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with serving_s3(Bucket()) as bucket:
        bench.kill(PushToBucket, 16, bucket=bucket)
