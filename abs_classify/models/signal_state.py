"""Compilers that are loaded into the process change how it takes signals; here that is undone.

LLVM, inside Triton, puts handlers of its own in the place of Python's: Ctrl-C would end the process at once, without
KeyboardInterrupt. OpenVINO gives the thread that compiles a small stack for signal handlers, which may be unmapped when
the model goes: the next signal would end the process with a segmentation fault.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["keep_signal_state"]

# bytes; more than a struct sigaction and a stack_t take anywhere
_STRUCTURE = 512


@contextmanager
def keep_signal_state() -> Iterator[None]:
    """Put back what the block changes of the handlers of signals and of this thread's stack for them.

    May be used in any thread. Only on Linux is there anything to do.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None)
    actions = {}
    for number in signal.valid_signals():
        action = ctypes.create_string_buffer(_STRUCTURE)
        if libc.sigaction(int(number), None, action) == 0:
            actions[int(number)] = action
    stack = ctypes.create_string_buffer(_STRUCTURE)
    libc.sigaltstack(None, stack)
    try:
        yield
    finally:
        libc.sigaltstack(stack, None)
        for value, action in actions.items():
            # those that may not be set, such as of SIGKILL, cannot have been changed either
            libc.sigaction(value, action, None)
