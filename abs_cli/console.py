"""What the user sees while work runs, on stderr: messages, also those that the libraries log, and progress."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from abs_cli.interruption import handled, interrupt_main_thread, write_past_buffers
from abs_core.errors import UnknownNameError
from abs_core.progress import Advance
from abs_core.text import format_duration, printable

if TYPE_CHECKING:
    from abs_classify.encoding.work import WorkCounts
    from abs_descriptions.bundles.change_view import TextStyle

__all__ = ["Interrupts", "LazyGroup", "PlainGroup", "note", "note_work", "progress", "show_log_messages", "text_style"]

_LINE_INTERVAL, _FIRST_LINE = 10.0, 1.0  # seconds between lines of progress, and before one that has nothing done yet
_GRACE_PERIOD = 15.0  # seconds from the first Ctrl-C to the end
_SHORT_GRACE_PERIOD = 5.0  # the same for SIGTERM and SIGHUP: many schedulers kill after ten seconds


def note(text: str) -> None:
    """One line on stderr, with everything from outside made harmless."""
    click.echo(printable(text), err=True)


def note_work(work: WorkCounts, seconds: float) -> None:
    """The last line of a command that encodes images or texts: how much it computed, and how long it took."""
    origin = "everything came from the cache; " if work.nothing else "the rest came from the cache; "
    note(f"computed: {work}; {'' if work.everything else origin}{seconds:.1f} s")


class _NoteHandler(logging.Handler):
    """Shows what a library logs as ``note`` does, a warning marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message."""
        try:
            prefix = "warning: " if record.levelno >= logging.WARNING else ""
            note(prefix + record.getMessage())
        except Exception:
            self.handleError(record)


_LIBRARIES = ("abs_core", "abs_descriptions", "abs_classify")


def show_log_messages() -> None:
    """Show on stderr what the libraries log, from informational messages on. A second call changes nothing."""
    for name in _LIBRARIES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _NoteHandler) for handler in logger.handlers):
            logger.addHandler(_NoteHandler())
            logger.setLevel(logging.INFO)
            logger.propagate = False  # other packages give the root logger a handler, and a line would come twice


def text_style() -> TextStyle:
    """How stdout shows lines: as wide as the terminal, or 80 columns; in colour on a terminal that has it, unless
    NO_COLOR is set."""
    from abs_descriptions.bundles.change_view import TextStyle

    is_capable = os.environ.get("TERM", "").lower() not in ("dumb", "unknown") and not os.environ.get("NO_COLOR")
    return TextStyle(shutil.get_terminal_size().columns, sys.stdout.isatty() and is_capable)


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Advance]:
    """Show done, total, rate and remaining time; a plain line every ten seconds where stderr is no terminal,
    or a dumb one, which cannot move its cursor: a bar would stay invisible on it.

    Args:
        title: the work, in a few words.
        total: the number of units; 0 if it is unknown.
        unit: the unit, in the plural.
    """
    if sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        with _bar(title, total, unit) as advance:
            yield advance
        return
    yield _ProgressLines(title, total, unit)


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed or 0:.1f} {unit}/s")

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()]
    with Progress(*columns, TextColumn("{task.fields[remark]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total or None, remark="")

        def advance(step: int = 1, remark: str = "") -> None:
            bar.update(task, advance=step, remark=printable(remark))

        yield advance


class _ProgressLines:
    """Progress where stderr is not a terminal: a plain line now and then."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._start = self._last = time.monotonic()
        self._done, self._lines = 0, 0

    def __call__(self, step: int = 1, remark: str = "") -> None:
        self._done += step
        now = time.monotonic()
        if not self._done:
            self._start = now  # what comes before the first unit, such as reading, says nothing about the rate
        # before the first unit a line comes early, so that nobody waits and wonders
        if now - self._last < (_LINE_INTERVAL if self._done or self._lines else _FIRST_LINE):
            return
        self._last = now
        self._lines += 1
        rate = self._done / max(now - self._start, 1e-9)
        of_total = f" of {self._total}" if self._total else ""
        parts = [f"{self._title}: {self._done}{of_total} {self._unit}", f"{rate:.1f} {self._unit}/s"]
        if self._total:
            # an estimated total may turn out too small
            left = max(0, self._total - self._done)
            parts.append(f"{format_duration(left / rate)} left" if rate else "time left unknown")
        note(", ".join(parts) + (f"; {remark}" if remark else ""))


class Interrupts:
    """Catches Ctrl-C, SIGTERM and SIGHUP inside a ``with`` block of the main thread; elsewhere it does nothing.

    The first one sets ``requested``. The second one, or the end of the grace period, raises ``KeyboardInterrupt``.
    """

    def __init__(self) -> None:
        self.requested = False
        self._timer: threading.Timer | None = None
        self._signals = ExitStack()

    def __enter__(self) -> Interrupts:
        self._signals.enter_context(handled(self._interrupt))
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._signals.close()

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        period = _GRACE_PERIOD if number == signal.SIGINT else _SHORT_GRACE_PERIOD
        wait = f"waiting up to {period:.0f} s for work in progress"
        write_past_buffers(f"\nstopping: {wait}; press Ctrl-C again to stop now\n")
        self._timer = threading.Timer(period, interrupt_main_thread)
        self._timer.daemon = True
        self._timer.start()


_NO_LIMIT = 1000


class _SuggestingGroup(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, except that an unknown name is answered with the one that was likely meant.

        Raises:
            UnknownNameError: there is no such command.
        """
        if (
            args
            and args[0] not in self.list_commands(ctx)
            and not args[0].startswith("-")
            and not ctx.resilient_parsing
        ):
            raise UnknownNameError(
                "command", args[0], self.list_commands(ctx), remedy=f"See `{ctx.command_path} --help`"
            )
        return super().resolve_command(ctx, args)


class PlainGroup(_SuggestingGroup):
    """A group whose ``--help`` shows the whole first sentence of each command, on several lines where it is long."""

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(_NO_LIMIT)) for name in sorted(self.commands)]
            )


class LazyGroup(_SuggestingGroup):
    """A group that knows its commands by name.

    Args:
        package: of the modules, such as "abs_cli.commands".
        table: command -> (module in the package, whose ``command`` it is, or module and name as "eval:command"; the
            line that ``--help`` shows).
        settings: what ``click.Group`` takes.
    """

    def __init__(self, *, package: str, table: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(**settings)
        self._package, self._table = package, table

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._table:
            return None
        module, _, attribute = self._table[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{self._package}.{module}"), attribute or "command")
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._table.items()])
