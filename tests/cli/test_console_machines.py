"""What goes to stderr for machines, and how little with ``--quiet``."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from support import ROOT, Abs

from abs_cli.console import note, progress, set_output, show_log_messages, warn


@pytest.fixture(autouse=True)
def _plain_output_afterwards() -> Iterator[None]:
    yield
    set_output()


def events(err: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in err.splitlines()]


def test_a_log_for_machines_has_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_output(log_format="json")
    show_log_messages()
    note("a\x1b[2J\nb \udcff \u202e \u00e9")
    warn("careful")
    logging.getLogger("abs_classify.room").warning("of %s", "birds")
    err = capsys.readouterr().err
    assert err.isascii()
    first, second, third = events(err)
    moment = datetime.fromisoformat(first.pop("time"))
    assert moment.utcoffset() == timedelta(0)
    assert first == {"event": "log", "level": "info", "logger": "abs", "message": "a\x1b[2J\nb \udcff \u202e \u00e9"}
    assert (second["level"], second["message"]) == ("warning", "careful")
    assert (third["level"], third["logger"], third["message"]) == ("warning", "abs_classify.room", "of birds")


def test_quiet_leaves_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    set_output(quiet=True)
    show_log_messages()
    note("labels: 3")
    logging.getLogger("abs_core.room").info("loading")
    with progress("classifying", 3, "images") as advance:
        advance(3)
    warn("careful")
    logging.getLogger("abs_core.room").warning("odd")
    note("skipped a.jpg: broken", logging.WARNING)
    assert capsys.readouterr().err == "warning: careful\nwarning: odd\nskipped a.jpg: broken\n"


def test_progress_for_machines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 100.5, 102.0, 102.5, 104.0])
    monkeypatch.setattr("abs_cli.console.time.monotonic", lambda: next(moments))
    set_output(quiet=True, progress="json")
    with progress("classifying", 40, "images") as advance:
        advance(5)
        advance(5, "pets")
        advance(30)
    start, middle, end = events(capsys.readouterr().err)
    common = {"event": "progress", "title": "classifying", "unit": "images", "total": 40}
    assert all(event.items() >= common.items() for event in (start, middle, end))
    names = ("done", "rate", "remaining", "remark", "finished")
    assert [start[name] for name in names] == [0, 0.0, None, "", False]
    assert [middle[name] for name in names] == [10, 5.0, 6.0, "pets", False]
    assert [end[name] for name in names] == [40, 10.0, 0.0, "", True]


def test_progress_that_fails_or_has_no_total_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    set_output(log_format="json")
    with pytest.raises(KeyError), progress("reading", 0, "files") as advance:
        advance({}["no step"])
    end = events(capsys.readouterr().err)[-1]
    assert (end["done"], end["total"], end["remaining"], end["finished"]) == (0, None, None, False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "classifying: 1 of 3 images"),
        ({"progress": "lines", "quiet": True}, "classifying: 1 of 3 images"),
        ({"progress": "lines", "log_format": "json"}, '"message": "classifying: 1 of 3 images'),
        ({"progress": "json"}, '"event": "progress"'),
        ({"log_format": "json"}, '"event": "progress"'),
        ({"progress": "none", "log_format": "json"}, ""),
        ({"progress": "none"}, ""),
        ({"quiet": True, "log_format": "json"}, ""),
    ],
)
def test_the_form_of_progress(
    options: dict[str, Any], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_cli.console._LINE_INTERVAL", 0.0)
    set_output(**options)
    with progress("classifying", 3, "images") as advance:
        advance(1)
    err = capsys.readouterr().err
    assert expected in err
    assert bool(err) == bool(expected)


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_last_line_of_a_failure_is_an_object(place: str, abs_command: Abs) -> None:
    common = ("--log-format", "json")
    ran = abs_command(*common, "lint", "catz") if place == "before" else abs_command("lint", "catz", *common)
    (event,) = events(ran.err)
    assert (ran.code, ran.out) == (2, "")
    assert event["message"].startswith("abs: error: no bundle is called 'catz'")
    assert (event["level"], event["exit_code"], event["error"]) == ("error", 2, "UsageError")
    assert event["message"] == f"abs: error: {event['problem']}. {event['remedy']}."
    (event,) = events(abs_command("evla", "--log-format=json").err)
    assert event["error"] == "UnknownNameError"
    *trace, event = events(abs_command("lint", "catz", *common, "--debug").err)
    assert trace[0]["message"].startswith("Traceback (most recent call last)")


def test_stdout_is_the_same_in_every_form(abs_command: Abs) -> None:
    plain = abs_command("lint", "pets", "--json")
    for options in (("-q",), ("--log-format", "json"), ("--quiet", "--progress", "none")):
        ran = abs_command("lint", "pets", "--json", *options)
        assert (ran.code, ran.out) == (plain.code, plain.out)


START = """
import click, os, signal, sys
import abs_cli.main as m
@m.cli.command("broken")
def broken():
    if sys.argv[-1] == "defect": raise AssertionError("two\\nlines")
    import time, warnings
    warnings.warn("old")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(120)
real = m.cli.get_command
m.cli.get_command = lambda ctx, name: broken if name == "broken" else real(ctx, name)
m.cli.list_commands = lambda ctx: ["broken"]
broken.params = [click.Argument(["what"], expose_value=False)]
m.main(sys.argv[1:])
"""


@pytest.mark.parametrize(("what", "code"), [("defect", 70), ("signal", 130)])
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_defect_and_a_signal_have_codes_of_their_own(what: str, code: int, form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, "--log-format", form, "broken", what],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == code, done.stderr
    messages = [event["message"] for event in events(done.stderr)] if form == "json" else [done.stderr.strip()]
    if what == "defect":
        assert messages[-1].endswith("AssertionError: two\nlines")
        return
    assert "UserWarning: old" in messages[0]
    assert messages[-1].endswith("interrupted; run the same command to resume")
    assert form == "text" or messages[1] == f"signal {int(signal.SIGTERM)}"
