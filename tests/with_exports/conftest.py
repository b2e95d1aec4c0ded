"""Fixtures of the tests that open exports in the real tools: `make test-exports` runs them; others skip them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exported_runs import CLASSES, HOSTILE_CLASSES, HOSTILE_NAMES, decide, make_run, row, save_photos

from abs_classify.labelling.label_folder import LabelFolder

# The folder of the environments, one a tool, that have nothing of ours.
_TOOLS = os.environ.get("EXPORT_TOOLS", "")

Reader = Callable[..., Any]


def _python(tool: str) -> Path:
    return Path(_TOOLS) / tool / "bin" / "python"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of each tool that is not installed, and say so."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            tool = item.path.stem.removeprefix("test_").replace("_", "-")
            if not _TOOLS or not _python(tool).exists():
                why = f"exports were NOT opened in {tool}; `make test-exports` does it, with an environment of its own"
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    """Runs the reader of this module's tool on an export; gives the JSON that it prints last."""
    tool = request.path.stem.removeprefix("test_")

    def run(*arguments: object) -> Any:
        script = Path(__file__).parent / "readers" / f"read_{tool}.py"
        command = [_python(tool.replace("_", "-")), script, *map(str, arguments)]
        # tools keep settings and databases at home
        environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": ""}
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        value = json.loads(result.stdout.splitlines()[-1])
        print(f"{tool} {value['version']}")
        return value

    return run


@pytest.fixture
def hostile(tmp_path: Path) -> LabelFolder:
    """Ten images with names that tools trip over, of seven such classes; the first is corrected."""
    photos = save_photos(tmp_path / "photos", HOSTILE_NAMES)
    rows = [row(photo, number % 7, classes=7) for number, photo in enumerate(photos)]
    folder = make_run(tmp_path / "out", rows, HOSTILE_CLASSES)
    decide(folder, "ann", _1="lower")
    return folder


@pytest.fixture
def boxes(tmp_path: Path) -> LabelFolder:
    """Two boxes of one image, the first of which is corrected, and one of another."""
    first, second = save_photos(tmp_path / "photos", ["a.jpg", "b.jpg"])
    rows = [
        row(first, 0, box=(6, 4, 30, 20)),
        row(first, 1, box=(0, 0, 12, 8)),
        row(second, 2, box=(0, 0, 60, 40), confidence=0.5),
    ]
    folder = make_run(tmp_path / "out", rows, CLASSES)
    decide(folder, "ann", _1="owl")
    return folder
