"""`abs` in a process of its own, as the tests of real servers and of vLLM run it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from abs_descriptions.bundles import Bundle
from abs_descriptions.bundles.repository import Repository


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Abs:
    """Runs the installed `abs` in a process of its own, with a home of its own."""

    def __init__(self, home: Path, cache: Path) -> None:
        self.home = home
        self._start = [str(Path(sys.executable).with_name("abs")), "--home", str(home), "--cache", str(cache)]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command as a terminal does: in a group of processes of its own."""
        return subprocess.Popen(
            [*self._start, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str | Path) -> Ran:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=600)
        return Ran(process.returncode, out, err)

    def bundle(self, name: str) -> Bundle:
        """The newest version of a bundle of this home."""
        return Repository.local(self.home / "bundles").read(name)
