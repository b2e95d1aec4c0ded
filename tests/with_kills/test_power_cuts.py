"""Power cuts: what a kill does not show, since the system keeps what a killed process wrote.

After a kill, files that nobody had flushed are emptied or cut off, as a file system may leave them.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_bench import KillBench
from kill_image_scenarios import Eval, Label
from kill_scenarios import Scenario, assert_same
from kill_text_scenarios import Generation
from killed_commands import Kill

pytestmark = [pytest.mark.faults, pytest.mark.slow]


def unflushed(scenario: Scenario) -> Iterator[Path]:
    """Files that are renamed without waiting for the disk, and those that lines are added to."""
    for path in sorted(scenario.folder.rglob("*")):
        is_feature = bool({"features", "index"} & set(path.parts)) and path.suffix not in (".uses", ".claim")
        if path.is_file() and (
            is_feature or path.parent.name == "journals" or path.name in ("labels.csv", "labels.jsonl")
        ):
            yield path


def cut_power(scenario: Scenario, draw: random.Random) -> int:
    """Empty some of these files and cut some off; how many."""
    changed = 0
    for path in unflushed(scenario):
        size = path.stat().st_size
        if draw.random() < 0.4:
            with path.open("r+b") as stream:
                stream.truncate(draw.choice([0, draw.randrange(size + 1)]))
            changed += 1
    return changed


def labels_of(scenario: Scenario) -> Any:
    """Results as far as they are exact whatever is encoded together; scores then differ in their last digits."""
    if isinstance(scenario, Label):
        with (scenario.folder / "out" / "labels.csv").open(newline="", encoding="utf-8") as stream:
            return [(row["path"], row["label"]) for row in csv.DictReader(stream)]
    if isinstance(scenario, Eval):
        lines = (scenario.folder / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        return [(row["method"], row["image"], row["top"]) for row in map(json.loads, lines)]
    return scenario.results()


@pytest.mark.parametrize("kind", [Label, Eval, Generation], ids=lambda kind: kind.__name__)
def test_after_a_power_cut_it_comes_to_the_same(bench: KillBench, tmp_path: Path, kind: type[Scenario]) -> None:
    if kind is Generation:
        pytest.importorskip("openai")
    draw = random.Random(0)
    whole = kind(tmp_path / "whole", bench.shared)
    whole.prepare()
    done = whole.run(bench.server, log=True)
    assert done.code == 0, done.err
    changed = 0
    for number in range(5):
        scenario = kind(tmp_path / f"cut{number}", bench.shared)
        scenario.prepare()
        scenario.run(bench.server, Kill(point=draw.randrange(len(done.points) // 3, len(done.points))))
        changed += cut_power(scenario, draw)
        last = Scenario.run(scenario, bench.server)
        assert scenario.is_finished(last), last.err
        assert_same(labels_of(scenario), labels_of(whole), number)
    assert changed
