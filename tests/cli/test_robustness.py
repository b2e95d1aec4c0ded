"""`abs robustness`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs

Folder = Callable[..., Path]


@pytest.mark.slow
def test_tables_figures_and_json(
    abs_command: Abs, image_folder: Folder, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    options = ["--model", small_clips[0], "--device", "cpu", "--threads", "1", "--draws", "2"]
    data = f"imagefolder:{image_folder('data', cat=4, car=4, dog=4)}"
    run = ["robustness", "--dataset", data, "--methods", "clip,tda", *options]
    added = ["--add-labels", "owl,yak,Cat", "--add-counts", "1,2"]
    printed = abs_command(*run, *added, "--figures", tmp_path / "out", cache=tmp_path / "cache")
    assert printed.code == 0, printed.err
    for title in ("calibration of the confidences:", "classes added that no image shows:", "another order of the"):
        assert title in printed.out
    assert "1 of the 3 classes of labels" in printed.out
    assert "computed: 12 of 12 images, 12 of 12 views" in printed.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["reliability.pdf", "reliability.png"]
    again = abs_command(*run, "--labels", "cat,car,dog", "--json", cache=tmp_path / "cache")
    assert "computed: nothing" in again.err
    value = json.loads(again.out)
    assert [entry["method"] for entry in value["confidences"]] == ["clip", "tda"]
    assert value["added"] == []
    assert value["settings"]["draws"] == 2
    rows = list(csv.DictReader(io.StringIO(abs_command(*run, "--format", "csv").out)))
    assert {row["section"] for row in rows} == {"confidences", "unknown", "class_order", "streams", "regimes"}
    assert abs_command(*run, "--format", "latex").out.startswith("% \\usepackage{booktabs}\n")


def test_wrong_input_has_exit_code_2(abs_command: Abs, image_folder: Folder) -> None:
    data = f"imagefolder:{image_folder('data', cat=1, car=1)}"
    run = ("robustness", "--dataset", data)
    assert "hidden must be above 0 and below 1, got 2" in abs_command.refuses(*run, "--hidden", "2")
    assert "must be whole numbers, as in 10,100, got 'ten'" in abs_command.refuses(*run, "--add-counts", "ten")
    assert "need classes to add" in abs_command.refuses(*run, "--add-counts", "10")
    assert "must be a whole number from 1 on, got 'adaptive'" in abs_command.refuses(*run, "--views", "adaptive")
    assert "unknown method" in abs_command.refuses(*run, "--methods", "clpi")
    assert "cannot be added: 0 of them" in abs_command.refuses(*run, "--methods", "clip", "--add-labels", "cat,car")
