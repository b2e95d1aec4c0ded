"""How the process ends when it is told to: Ctrl-C, SIGTERM of a scheduler, SIGHUP of a closed terminal.

Imports next to nothing, because it is in force while the rest is imported.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

__all__ = [
    "INTERRUPTED",
    "ending_signals",
    "handled",
    "interrupt_main_thread",
    "set_signal_line",
    "write_past_buffers",
]

#: The last line of a command that was interrupted.
INTERRUPTED = "abs: interrupted; run the same command to resume"

# What ends a process from outside; not every system has all of them.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

# seconds after which an interruption that a finalizer swallowed comes again, when that has ended
_PAUSE = 0.05


@contextmanager
def handled(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Have a function called for Ctrl-C, SIGTERM and SIGHUP; the handlers from before come back afterwards.

    A signal that is ignored, as ``nohup`` ignores SIGHUP, stays so. Does nothing outside the main thread.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def ending_signals(*, at_once: bool = False) -> Iterator[None]:
    """Let every signal that ends the process raise ``KeyboardInterrupt``.

    Args:
        at_once: end the process instead: while modules are imported, which may not survive an exception.
    """
    if at_once:
        with handled(_end):
            yield
        return
    with handled(_raise), _swallowed_interrupts_come_again():
        yield


@contextmanager
def _swallowed_interrupts_come_again() -> Iterator[None]:
    """Interrupt again where Python only reports ``KeyboardInterrupt``: in finalizers and in callbacks from C."""
    before, timers = sys.unraisablehook, list[threading.Timer]()

    def hook(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        timers.append(threading.Timer(_PAUSE, interrupt_main_thread))
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in timers:
            timer.cancel()
            timer.join()  # so that none comes when nobody handles it


def interrupt_main_thread() -> None:
    """Send the main thread what Ctrl-C sends."""
    main = threading.main_thread().ident
    if main is None or not hasattr(signal, "pthread_kill"):
        _thread.interrupt_main()
    else:
        # To the main thread itself: it may wait for a lock, which only a signal to it interrupts.
        signal.pthread_kill(main, signal.SIGINT)


def write_past_buffers(line: str) -> None:
    """Write to stderr in a signal handler, which may have come while ``sys.stderr`` was writing.

    Where the terminal is gone, what is printed from now on goes nowhere instead of failing.
    """
    try:
        os.write(2, line.encode())
    except OSError:
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(nowhere, descriptor)


def _line_break(_number: int) -> str:
    return "\n"


_signal_line: Callable[[int], str] = _line_break


def set_signal_line(make: Callable[[int], str] = _line_break) -> None:
    """Choose what is written when a signal comes: by default the end of the line that may be there.

    Args:
        make: gets the number of the signal; what it returns ends with a line feed.
    """
    global _signal_line
    _signal_line = make


def _raise(number: int, _frame: FrameType | None) -> None:
    if number != signal.SIGINT or os.isatty(2):
        write_past_buffers(_signal_line(number))  # finds out whether the terminal is gone
    raise KeyboardInterrupt


def _end(_number: int, _frame: FrameType | None) -> None:
    write_past_buffers(f"\n{INTERRUPTED}\n")
    os._exit(130)
