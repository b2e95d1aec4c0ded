"""Long commands killed now and then; `make test-kills` kills each of them, and more of them, more often."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_bench import KillBench, opened_bench
from kill_image_scenarios import Eval, Label
from kill_scenarios import Scenario
from kill_text_scenarios import FilterByText, Generation, ModelPull, Pull, Push
from killed_commands import Kill
from support import colour

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


def test_labelling_that_is_killed_again_and_again_ends_with_the_same_rows(bench: KillBench, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(80):
        colour(number).save(photos / f"{number:03}.png")

    def command(home: str, out: str) -> list[str | Path]:
        return [
            "--home", tmp_path / home, "label", photos, "--out", tmp_path / out, "--labels", "cat,car", "--model",
            f"local-dir:{bench.shared['model']}", "--attention", "self", "--threads", "1", "--method", "cupl",
        ]  # fmt: skip

    def table(out: str) -> list[dict[str, str]]:
        with (tmp_path / out / "labels.csv").open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    whole = bench.server.run(command("home", "whole"), [tmp_path])
    assert whole.code == 0, whole.err
    delay, kills = whole.seconds, 0
    while kills < 4:  # what was labelled stays, so a later run may be done before its kill
        delay *= 0.8
        kills += bench.server.run(command("other", "killed"), [tmp_path], kill=Kill(delay=delay)).was_killed
    last = bench.server.run(command("other", "killed"), [tmp_path])
    assert last.code == 0, last.err
    assert table("killed") == table("whole")
    assert len(table("whole")) == 80
