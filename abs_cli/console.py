"""What the user sees while work runs, on stderr: messages, and progress with rate and remaining time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click

from abs_core.printable import printable

__all__ = ["Advance", "counted", "json_text", "note", "progress"]


class Advance(Protocol):
    """Moves a progress line: by ``step``, with an optional remark behind it."""

    def __call__(self, step: int = 1, remark: str = "") -> None: ...


def note(text: str) -> None:
    """One line on stderr, with everything from outside made harmless."""
    click.echo(printable(text), err=True)


def json_text(value: Any) -> str:
    """JSON on one line; what is no valid Unicode, as file names may be, becomes JSON's own escape."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


def counted(number: int, one: str, many: str) -> str:
    """A number and what is counted: "1 class", "2 classes"."""
    return f"{number} {one if number == 1 else many}"


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
    """Show done, total, rate and remaining time; a plain line every ten seconds where stderr is no terminal.

    Args:
        what: the work, in a few words.
        total: the number of units.
        unit: the unit, in the plural.
    """
    if sys.stderr.isatty():
        with _bar(what, total, unit) as advance:
            yield advance
        return
    yield _Lines(what, total, unit)


@contextmanager
def _bar(what: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed or 0:.1f} {unit}/s")

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()]
    with Progress(*columns, TextColumn("{task.fields[remark]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, remark="")

        def advance(step: int = 1, remark: str = "") -> None:
            bar.update(task, advance=step, remark=printable(remark))

        yield advance


class _Lines:
    """Progress for logs."""

    def __init__(self, what: str, total: int, unit: str, every: float = 10.0) -> None:
        self._what, self._total, self._unit, self._every = what, total, unit, every
        self._start = self._last = time.monotonic()
        self._done = 0

    def __call__(self, step: int = 1, remark: str = "") -> None:
        self._done += step
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        rate = self._done / max(now - self._start, 1e-9)
        left = f"{(self._total - self._done) / rate:.0f} s left" if rate else "time left not known yet"
        tail = f"; {remark}" if remark else ""
        done = f"{self._what}: {self._done} of {self._total} {self._unit}"
        note(f"{done}, {rate:.1f} {self._unit}/s, {left}{tail}")
