"""`abs gen-descriptions`: Ctrl-C, kills, and the run that resumes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gen_descriptions_command import NAMES, ChatReply, ChatScript, Generate, late, texts
from support import ROOT

from abs_cli.interruption import INTERRUPTED, ending_signals
from abs_cli.main import main

pytest.importorskip("openai")
pytestmark = pytest.mark.faults


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_under_way_and_leaves_a_partial_bundle(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: late(0.1, f"This {name} number {body['seed']} has a long tail.")
    arguments = generate.arguments(NAMES, "--per-class", "10", "--concurrency", "4")
    with generate.start(*arguments) as run:
        server.wait_for(12)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=120)
    assert run.returncode == 130, err
    assert "press Ctrl-C again" in err
    assert "PARTIAL: interrupted" in out
    assert re.search(r"short: owl has \d of 10", out)
    assert not generate.bundle().header.complete
    paid = len(server.asked)
    assert 8 <= paid < 40
    assert len(generate.journal()) == paid == len(texts(generate.bundle()))
    assert generate(NAMES, "--per-class", "10").code == 0
    assert len(server.asked) == 40


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_scheduler_and_a_closed_terminal_end_it_like_ctrl_c(
    generate: Generate, server: ChatScript, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pty = pytest.importorskip("pty")
    monkeypatch.setenv("TERM", "xterm")
    server.behave = lambda name, body: late(0.1, f"This {name} number {body['seed']} has a long tail.")
    ours, theirs = pty.openpty()
    arguments = generate.arguments(NAMES, "--per-class", "10", "--concurrency", "4")
    with generate.start(*arguments, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        server.wait_for(12)
        if name == "SIGHUP":
            os.close(ours)  # every output fails from now on
        run.send_signal(getattr(signal, name))
        if name == "SIGTERM":
            with suppress(OSError):
                while os.read(ours, 65536):
                    pass
            os.close(ours)
        assert run.wait(timeout=120) == 130
    assert not generate.bundle().header.complete
    assert 12 <= len(generate.journal()) == len(server.asked) == len(texts(generate.bundle())) < 40
    assert generate(NAMES, "--per-class", "10").code == 0
    assert len(server.asked) == 40


def test_a_signal_while_modules_are_imported_is_one_line() -> None:
    code = "import abs_cli.interruption as i\nimport os, signal\nwith i.ending_signals(at_once=True):\n    os.kill({})"
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        command = [sys.executable, "-c", code.format(f"os.getpid(), signal.{name}")]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert (done.returncode, done.stderr) == (130, f"\n{INTERRUPTED}\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_a_second_ctrl_c_ends_it_at_once(generate: Generate, server: ChatScript) -> None:
    stalled = threading.Event()

    def behave(name: str, body: dict[str, Any]) -> ChatReply:
        if len(server.asked) > 3:
            stalled.wait(120)
        return f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    with generate.start(*generate.arguments(NAMES, "--per-class", "3", "--concurrency", "4")) as run:
        server.wait_for(7)
        run.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert run.poll() is None
        started = time.monotonic()
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=120)
    stalled.set()
    assert time.monotonic() - started < 60
    assert run.returncode == 130
    assert "3 sentences of 4 classes" in out
    # which classes they are of depends on which replies come first
    assert len(list(texts(generate.bundle()))) == 3


@pytest.mark.slow
def test_killed_at_random_moments_it_gives_the_same_bundle_and_pays_for_nothing_twice(
    generate: Generate, server: ChatScript, tmp_path: Path
) -> None:
    # A fifth of the replies is refused by cleaning, so that there are rounds.
    def behave(name: str, body: dict[str, Any]) -> ChatReply:
        time.sleep(0.01)
        return "No." if body["seed"] % 5 == 0 else f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    arguments = generate.arguments(NAMES, "--per-class", "20", "--concurrency", "4")
    whole = tmp_path / "whole"
    with pytest.raises(SystemExit, match="0"):
        main(["--home", str(whole), *arguments])
    needed = len(server.asked)
    assert needed > 80
    draw, kills = random.Random(), 4
    for _ in range(kills):
        with generate.start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            server.wait_for(len(server.asked) + draw.randrange(1, 14))
            time.sleep(draw.uniform(0, 0.01))
            assert run.poll() is None, "it ended before it was killed"
            run.kill()
    with generate.start(*arguments) as run:
        _, err = run.communicate()
    assert run.returncode == 0, err
    wanted, got = generate.bundle(home=whole), generate.bundle()
    assert got.header.records_digest == wanted.header.records_digest
    assert got.header.rejected_digest == wanted.header.rejected_digest
    assert got.header.counts == wanted.header.counts
    marks = [line["request"] for line in generate.journal()]
    assert len(marks) == len(set(marks)) == needed
    # A kill costs at most what was under way: four requests, and as many whose reply was not yet taken.
    assert needed <= len(server.asked) - needed <= needed + 8 * kills
