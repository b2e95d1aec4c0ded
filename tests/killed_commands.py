"""`abs` killed at chosen crash points and at random moments, many times in little time; see ``kill_server``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import ROOT

#: Seconds that any run may take on a busy machine.
_LONGEST = 300.0


@dataclass(frozen=True)
class Kill:
    """When a run gets which signal: at a crash point, or after a time.

    Args:
        point: number of the crash point, from 1 on; 0 for none.
        delay: seconds after the start; None for none.
        signal: its number.
    """

    point: int = 0
    delay: float | None = None
    signal: int = signal.SIGKILL

    def __str__(self) -> str:
        moment = f"at point {self.point}" if self.point else f"after {self.delay:.3f} s"
        return f"{signal.Signals(self.signal).name} {moment}"


@dataclass(frozen=True)
class CrashPoint:
    """A step of a run at which it can be killed.

    Args:
        number: from 1 on.
        step: what was about to happen, the name of an audit event.
        path: of the file.
        state: of a renamed or linked file, whether its bytes had been flushed to the disk: synced or unsynced; folder.
    """

    number: int
    step: str
    path: Path
    state: str


@dataclass(frozen=True)
class KilledRun:
    """How a run ended.

    Args:
        code: exit code; minus the number of the signal that ended it.
        out, err: what it printed.
        seconds: that it took.
        points: its crash points, where they were asked for.
    """

    code: int
    out: str
    err: str
    seconds: float
    points: list[CrashPoint] = field(default_factory=list)

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


class KillServer:
    """Runs `abs` in forks of a process that has imported everything.

    Args:
        process: that process.
        scratch: a folder for what the runs print.
    """

    def __init__(self, process: subprocess.Popen[str], scratch: Path) -> None:
        self._process, self._scratch = process, scratch
        self.current = 0
        """The process of the run that is going on."""
        self.lock = threading.Lock()

    def run(
        self,
        arguments: Sequence[str | Path],
        watched: Sequence[Path],
        *,
        kill: Kill | None = None,
        environment: dict[str, str] | None = None,
        later: float = 0.0,
        log: bool = False,
    ) -> KilledRun:
        """Run a command to its end, whatever that is.

        Args:
            arguments: of `abs`.
            watched: the folders whose files make crash points.
            kill: when it is killed; None lets it end.
            environment: further variables.
            later: seconds by which its clock is ahead.
            log: whether the crash points are wanted.
        """
        kill = kill or Kill()
        out, err, points = (self._scratch / name for name in ("out", "err", "points"))
        request: dict[str, Any] = {
            "arguments": [str(argument) for argument in arguments],
            "watched": [str(folder) for folder in watched],
            "point": kill.point,
            "delay": kill.delay,
            "signal": int(kill.signal),
            "environment": environment or {},
            "later": later,
            "out": str(out),
            "err": str(err),
            "log": str(points) if log else None,
        }
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        self.current = self._answer()["process"]
        answer = self._answer()
        with self.lock:
            self.current = 0
        found = _read_points(points) if log else []
        printed = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
        return KilledRun(answer["code"], *printed, answer["seconds"], found)

    def kill(self) -> None:
        """Kill the run that is going on; for servers that it talks to, whose threads call this."""
        with self.lock:
            if self.current:
                os.kill(self.current, signal.SIGKILL)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server of the kills has ended"
        return json.loads(line)


def _read_points(log: Path) -> list[CrashPoint]:
    points = []
    for line in log.read_text(encoding="utf-8").splitlines():
        number, step, path, state = line.split("\t")
        points.append(CrashPoint(int(number), step, Path(path), state))
    return points


@contextmanager
def serving_kills(scratch: Path, modules: Sequence[str] = (), **environment: str) -> Iterator[KillServer]:
    """Start the process whose forks are killed.

    Args:
        scratch: a folder for what the runs print.
        modules: to import, besides those of the toolkit, before the first fork.
        environment: further variables of the process and of all runs.
    """
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AWS_", "ABS_", "OPENAI_"))
    }
    command = [sys.executable, str(Path(__file__).with_name("kill_server.py")), *modules]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**kept, **one_thread, "PYTHONPATH": str(ROOT), **environment},
    ) as process:
        server = KillServer(process, scratch)
        assert server._answer() == "ready"
        try:
            yield server
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_LONGEST)
