"""`--plugin` in the commands that compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Abs

from abs_classify import plugins as plugins_module

EXAMPLE = ROOT / "examples" / "own_method.py"


@pytest.fixture(autouse=True)
def registry(clean_table: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins_module, "_LOADED", {})


def test_a_method_of_one_s_own_in_eval_label_and_classify(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    folder = image_folder("val", cat=2, dog=2)
    common: list[Any] = ["--labels", "cat,dog", "--model", small_clips[0], "--plugin", EXAMPLE]
    ran = abs_command("eval", "--dataset", f"imagefolder:{folder}", "--methods", "clip,median", "--json", *common)
    assert ran.code == 0, ran.err
    _, result = json.loads(ran.out)["results"]
    assert result["method"] == "median"
    assert any(note.startswith("plugin own_method.py: sha256:") for note in result["details"]["notes"])
    ran = abs_command("classify", folder, "--method", "median", "--json", *common)
    assert ran.code == 0, ran.err
    assert [json.loads(line)["method"] for line in ran.out.splitlines()] == ["median"] * 4
    ran = abs_command("label", folder, "--method", "median", "--out", tmp_path / "out", *common)
    assert ran.code == 0, ran.err
    assert len((tmp_path / "out" / "labels.csv").read_text(encoding="utf-8").splitlines()) == 5


def test_without_the_plugin_its_method_is_unknown(abs_command: Abs) -> None:
    assert "unknown method 'median'" in abs_command.refuses("eval", "--dataset", "demo", "--methods", "median")


def test_a_broken_plugin_is_one_line(abs_command: Abs, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n", encoding="utf-8")
    line = abs_command.refuses("classify", "photo.jpg", "--labels", "cat,dog", "--plugin", path)
    assert f"the plugin '{path}' failed at line 1: ZeroDivisionError" in line
    assert "no file" in abs_command.refuses("eval", "--dataset", "demo", "--plugin", tmp_path / "none.py")
