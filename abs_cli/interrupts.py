"""Ctrl-C in two steps: the first one asks for nothing new and waits for what is paid already, the second one stops."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Catches Ctrl-C (SIGINT) inside a ``with`` block of the main thread; elsewhere it does nothing.

    The first one sets ``asked``. The second one, or the end of the patience, raises ``KeyboardInterrupt``.

    Args:
        patience: seconds from the first one to the end.
    """

    def __init__(self, patience: float = 15.0) -> None:
        self.asked = False
        self._patience = patience
        self._timer: threading.Timer | None = None
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not through sys.stderr, in the middle of whose work the signal may have come.
        line = (
            f"\nstopping: waiting up to {self._patience:.0f} s for what is under way; press Ctrl-C again to stop now\n"
        )
        with suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), line.encode())
        self._timer = threading.Timer(self._patience, _interrupt_main_thread)
        self._timer.daemon = True
        self._timer.start()


def _interrupt_main_thread() -> None:
    main = threading.main_thread().ident
    if main is None or not hasattr(signal, "pthread_kill"):
        _thread.interrupt_main()
    else:
        # To that very thread: it may wait for a lock, which only a signal of its own ends.
        signal.pthread_kill(main, signal.SIGINT)
