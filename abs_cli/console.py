"""What goes to stderr while work runs: messages, also those that the libraries log, and progress.

As text for people, or as JSON for machines, one object a line. Each has ``time`` and ``event``, which is ``log`` (with
``level``, ``logger`` and ``message``) or ``progress`` (with ``title``, ``unit``, ``done``, ``total``, ``rate``,
``remaining``, ``remark`` and ``finished``).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from abs_cli.interruption import handled, interrupt_main_thread, set_signal_line, write_past_buffers
from abs_cli.settings import apply_settings, sub_command, sub_commands
from abs_cli.variables import misspelt_variables
from abs_core.errors import UnknownNameError
from abs_core.progress import Advance, no_progress
from abs_core.text import format_duration, printable, without_secrets

if TYPE_CHECKING:
    from abs_classify.encoding.work import WorkCounts
    from abs_descriptions.bundles.change_view import TextStyle

__all__ = [
    "LOG_FORMATS",
    "PROGRESS_FORMS",
    "Interrupts",
    "LazyGroup",
    "PlainGroup",
    "note",
    "note_traceback",
    "note_work",
    "progress",
    "set_output",
    "show_log_messages",
    "text_style",
    "wants_traceback",
    "warn",
]

LOG_FORMATS = ("text", "json")
PROGRESS_FORMS = ("auto", "bar", "lines", "json", "none")

_LINE_INTERVAL, _FIRST_LINE = 10.0, 1.0  # seconds between lines of progress, and before one that has nothing done yet
_EVENT_INTERVAL = 1.0  # seconds between two events of progress, which machines read
_GRACE_PERIOD = 15.0  # seconds from the first Ctrl-C to the end
_SHORT_GRACE_PERIOD = 5.0  # the same for SIGTERM and SIGHUP: many schedulers kill after ten seconds


@dataclass(frozen=True)
class _Output:
    """What the options that all commands share say of stderr."""

    quiet: bool = False
    log_format: str = "text"
    progress: str = "auto"
    debug: bool = False


_output = _Output()


def set_output(*, quiet: bool = False, log_format: str = "text", progress: str = "auto", debug: bool = False) -> None:
    """Choose what goes to stderr from now on, and how.

    Args:
        quiet: only warnings and errors; progress only where ``progress`` names a form of it.
        log_format: one of ``LOG_FORMATS``.
        debug: a traceback with every error.
        progress: one of ``PROGRESS_FORMS``; auto is JSON with the log format json, else a bar on a terminal and lines
            elsewhere.
    """
    global _output
    _output = _Output(quiet, log_format, progress, debug)
    # warnings of Python and of other packages become lines of a log for machines
    logging.captureWarnings(log_format == "json")
    if log_format == "json":
        set_signal_line(lambda number: _text_line(f"signal {number}"))
    else:
        set_signal_line()


def wants_traceback() -> bool:
    """Whether errors are to be shown with a traceback."""
    return _output.debug


def _text_line(text: str) -> str:
    return _event_line("log", level="warning", logger="abs", message=text) + "\n"


def note(text: str, level: int = logging.INFO, *, logger: str = "abs", **fields: Any) -> None:
    """One line on stderr, with everything from outside made harmless.

    Args:
        text: what to say.
        level: of ``logging``; from a warning on it is shown with ``--quiet`` as well.
        logger: who says it.
        fields: further members of the line where it is JSON.
    """
    if not _output.quiet or level >= logging.WARNING:
        _write_line(text, level, logger, **fields)


def warn(text: str, level: int = logging.WARNING, *, logger: str = "abs") -> None:
    """One line on stderr that is marked as a warning, with ``--quiet`` as well."""
    note(text if _output.log_format == "json" else f"warning: {text}", level, logger=logger)


def _write_line(text: str, level: int = logging.INFO, logger: str = "abs", **fields: Any) -> None:
    text = without_secrets(text)
    if _output.log_format == "json":
        shown = {name: without_secrets(value) if isinstance(value, str) else value for name, value in fields.items()}
        _write_event("log", level=logging.getLevelName(level).lower(), logger=logger, message=text, **shown)
    else:
        click.echo(printable(text), err=True)


def _write_event(event: str, **members: Any) -> None:
    click.echo(_event_line(event, **members), err=True)


def _event_line(event: str, **members: Any) -> str:
    # in ASCII, which is harmless in a terminal and can be written in any encoding
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": moment, "event": event, **members})


def note_traceback(text: str, level: int) -> None:
    """The traceback of an error, as Python prints it; on one line where that is JSON."""
    if _output.log_format == "json":
        _write_line(text, level)
    else:
        click.echo(without_secrets(text), err=True)


def note_work(work: WorkCounts, seconds: float) -> None:
    """The last line of a command that encodes images or texts: how much it computed, and how long it took."""
    origin = "everything came from the cache; " if work.nothing else "the rest came from the cache; "
    note(f"computed: {work}; {'' if work.everything else origin}{seconds:.1f} s")


class _NoteHandler(logging.Handler):
    """Shows what a library logs as ``note`` does, a warning marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message."""
        try:
            show = warn if record.levelno >= logging.WARNING else note
            show(record.getMessage(), record.levelno, logger=record.name)
        except Exception:
            self.handleError(record)


_LIBRARIES = ("abs_core", "abs_descriptions", "abs_classify")
_PYTHON_WARNINGS = "py.warnings"


def show_log_messages() -> None:
    """Show on stderr what the libraries log, from informational messages on. A second call changes nothing."""
    for name in (*_LIBRARIES, _PYTHON_WARNINGS):
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
    """Show done, total, rate and remaining time, in the form that ``set_output`` chose.

    By itself this is a bar on a terminal, and a plain line every ten seconds where stderr is none, or a dumb one, which
    cannot move its cursor: a bar would stay invisible on it.

    Args:
        title: the work, in a few words.
        total: the number of units; 0 if it is unknown.
        unit: the unit, in the plural.
    """
    form = _progress_form()
    if form == "bar":
        with _bar(title, total, unit) as advance:
            yield advance
    elif form == "json":
        with _ProgressEvents(title, total, unit) as events:
            yield events
    elif form == "lines":
        yield _ProgressLines(title, total, unit)
    else:
        with no_progress(title, total, unit) as advance:
            yield advance


def _progress_form() -> str:
    if _output.progress != "auto":
        return _output.progress
    if _output.quiet:
        return "none"
    if _output.log_format == "json":
        return "json"
    is_capable = os.environ.get("TERM", "").lower() not in ("dumb", "unknown")
    return "bar" if sys.stderr.isatty() and is_capable else "lines"


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
        _write_line(", ".join(parts) + (f"; {remark}" if remark else ""))


class _ProgressEvents:
    """Progress for machines: an event at the start, at most one a second, and one at the end."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._remark = 0, ""
        self._start = self._last = time.monotonic()

    def __enter__(self) -> _ProgressEvents:
        self._write(self._start, finished=False)
        return self

    def __exit__(self, kind: object, *_error: object) -> None:
        self._write(time.monotonic(), finished=kind is None)

    def __call__(self, step: int = 1, remark: str = "") -> None:
        self._done += step
        self._remark = remark
        now = time.monotonic()
        if not self._done:
            self._start = now
        if now - self._last >= _EVENT_INTERVAL:
            self._write(now, finished=False)

    def _write(self, now: float, *, finished: bool) -> None:
        self._last = now
        rate = self._done / max(now - self._start, 1e-9) if self._done else 0.0
        left = max(0, self._total - self._done)
        _write_event(
            "progress",
            title=self._title,
            unit=self._unit,
            done=self._done,
            total=self._total or None,
            rate=round(rate, 3),
            remaining=round(left / rate, 1) if rate and self._total else None,
            remark=self._remark,
            finished=finished,
        )


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
        text = f"stopping: waiting up to {period:.0f} s for work in progress; press Ctrl-C again to stop now"
        write_past_buffers(_text_line(text) if _output.log_format == "json" else f"\n{text}\n")
        self._timer = threading.Timer(period, interrupt_main_thread)
        self._timer.daemon = True
        self._timer.start()


_NO_LIMIT = 1000


# `abs config check` lists them itself
_WITHOUT_WARNINGS = ("config", "completion")


class _SuggestingGroup(click.Group):
    """What all groups have in common: unknown commands are answered, and settings are applied to the known ones."""

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
            elsewhere = " or ".join(f"`{command}`" for command in _commands_called(args[0], ctx.find_root()))
            remedy = f"You may want {elsewhere}; see" if elsewhere else "See"
            raise UnknownNameError(
                "command", args[0], self.list_commands(ctx), remedy=f"{remedy} `{ctx.command_path} --help`"
            )
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            if remark := apply_settings(ctx, name, command, rest):
                note(remark)
            if ctx.parent is None and name not in _WITHOUT_WARNINGS and not ctx.resilient_parsing:
                for problem in misspelt_variables(self).values():
                    warn(problem)
        return name, command, rest


def _commands_called(name: str, root: click.Context) -> Iterator[str]:
    """The commands of a name, in whichever group, such as ``abs bundle merge`` and ``abs label merge``."""
    for first in sub_commands(root.command):
        if first == name:
            yield f"{root.info_name} {first}"
        command = sub_command(root.command, first)
        if command is not None and name in sub_commands(command):
            yield f"{root.info_name} {first} {name}"


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
