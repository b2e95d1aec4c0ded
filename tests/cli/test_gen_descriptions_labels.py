"""Label files that `abs gen-descriptions` refuses, and says why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import Abs


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", r"labels\.txt.*"),
        ("cat\ndog\nCat\n", r"line 3.*cat.*(twice|line 1)"),
        ("cat\n   \ndog\n\t \u3000\n", None),
        ("   \n", r"labels\.txt"),
    ],
)
def test_label_files(abs_command: Abs, tmp_path: Path, content: str, expected: str | None) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(content, encoding="utf-8")
    if expected is None:
        line = abs_command.refuses("gen-descriptions", path, "--name", "x")
        assert re.search("line [24]", line)
    else:
        line = abs_command.refuses("gen-descriptions", path, "--name", "x")
        assert re.search(expected, line, re.IGNORECASE), line
    assert not (abs_command.home / "bundles").exists()
