"""How the process ends when it is told to, also where Python would only report it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from support import ROOT

from abs_cli.interruption import ending_signals


class InterruptedFinalizer:
    """Is interrupted while it is finalized, as a generator is whose threads end slowly."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def run_until_interrupted() -> None:
    with ending_signals():
        InterruptedFinalizer()
        time.sleep(120)


def test_an_interruption_in_a_finalizer_ends_the_run() -> None:
    before = sys.unraisablehook
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_until_interrupted()
    assert time.monotonic() - start < 60
    assert sys.unraisablehook is before


def test_an_interruption_in_the_last_finalizer_comes_while_it_is_handled_or_not_at_all() -> None:
    code = (
        "import os, signal\nfrom abs_cli.interruption import ending_signals\nfrom threading import active_count\n"
        "class Last:\n    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "try:\n    with ending_signals(): Last()\nexcept KeyboardInterrupt: pass\n"
        "print(active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")


def test_other_errors_in_finalizers_are_reported_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def __del__(self) -> None:
            raise ValueError("of no use")

    reported: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(str(report.exc_value)))
    with ending_signals():
        Wrong()
    assert reported == ["of no use"]


def test_what_an_interruption_cuts_off_in_other_threads_says_nothing() -> None:
    code = (
        "import abs_cli.main as main\n"
        "class Request:\n    def __del__(self): raise RuntimeError('cut off')\n"
        "under_way = Request()\n"
        "def interrupted(**_): raise KeyboardInterrupt\n"
        "main.cli.main = interrupted\nmain.main([])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (130, "abs: interrupted; run the same command to resume\n")
