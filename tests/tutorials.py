"""Tutorials and how-to pages as a reader follows them: every block of a page, in order, in an empty folder.

``bash``, ``py`` and ``toml`` mark what does not run here: it needs a server, a network, weights, or is a fragment.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import Abs

ROOT = Path(__file__).parents[1]

# A line that needs no shell is run in this process, where torch is imported already.
_PLAIN = re.compile(r"abs [^$|<>;&`\\]*")


def path_with_abs(folder: Path) -> str:
    """A PATH on which ``abs`` is that of this code; it keeps everything below ``$SCRATCH``."""
    command = folder / "bin" / "abs"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m abs_cli --home "$SCRATCH/home" "$@"\n')
    command.chmod(0o755)
    return f"{command.parent}{os.pathsep}{os.environ['PATH']}"


def run_tutorial(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a page of docs/ and hold it to the output that it shows; returns its text."""
    for variable, value in (("SCRATCH", str(folder)), ("PYTHONPATH", str(ROOT)), ("PATH", path_with_abs(folder))):
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(folder)
    command = Abs(folder / "home", folder / "home" / "cache", capsys)
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    printed = ""
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(compile(block, f"docs/{name}", "exec"), {})
        elif language == "sh":
            printed = _run_block(block, command)
        elif language not in ("bash", "py", "toml"):
            assert language == "text"
            assert [line for line in block.splitlines() if line not in printed] == [], printed
    return page


def _run_block(block: str, command: Abs) -> str:
    """What the lines of a block print; each is whole, and sets nothing for the next."""
    printed = ""
    for line in block.splitlines():
        if _PLAIN.fullmatch(line):
            done = command(*shlex.split(line, comments=True)[1:])
            code, said = done.code, done.out + done.err
        else:
            run = subprocess.run(["sh", "-ec", line], capture_output=True, text=True, check=False, timeout=300)
            code, said = run.returncode, run.stdout + run.stderr
        printed += said
        assert code == 0, f"{line}\n{printed}"
    return printed
