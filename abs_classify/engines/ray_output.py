"""What Ray would print, log, or take for itself: output and signals stay those of whoever runs the engine."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from tempfile import TemporaryFile
from typing import Any

from abs_core.extras import require

__all__ = ["keep_output_clean", "kept_signals", "quiet_core", "quiet_data"]

_logger = logging.getLogger(__name__)


def keep_output_clean(address: str | None) -> None:
    """Have Ray print nothing: standard output is for results, and it prints there of workers that die.

    It has no option for that, nor for the loopback interface once it is imported.
    """
    vars(require("ray._private.worker"))["print_to_stdstream"] = _log_message
    if not address:
        vars(require("ray._private.ray_constants"))["ENABLE_RAY_CLUSTER"] = False


def _log_message(data: Mapping[str, Any], **_settings: Any) -> None:
    for line in data.get("lines", ()):
        _logger.debug("Ray: %s", line)


@contextmanager
def kept_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts; whoever runs this has decided what it does."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        yield
    finally:
        if before is not None:  # one that a program in C has set cannot be had, and so not set again
            signal.signal(signal.SIGTERM, before)


_STDERR = 2

# as Ray's core begins a line: [2026-11-29 18:13:07,948 I 7733 7733] logging.cc:303: ...
_CORE_LINE = re.compile(rb"(\x1b\[[0-9;]*m)?\[\d{4}-\d\d-\d\d [\d:,]+ [A-Z] [ \d]+\] ")


@contextmanager
def quiet_core() -> Iterator[None]:
    """Without what Ray's core, which knows no stream of Python, writes to stderr: that it has read its own settings.

    What others write meanwhile comes when Ray has started.
    """
    try:
        before = os.dup(_STDERR)
    except OSError:  # it is closed
        yield
        return
    with ExitStack() as stack:
        stack.callback(os.close, before)
        file = None
        with suppress(OSError):  # no room, which Ray says better
            file = stack.enter_context(TemporaryFile())
        if file is None:
            yield
            return
        sys.stderr.flush()
        os.dup2(file.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(before, _STDERR)
            file.seek(0)
            for line in file:
                if _CORE_LINE.match(line):
                    _logger.debug("Ray: %s", line.decode(errors="replace").rstrip())
                else:
                    with suppress(OSError):
                        os.write(_STDERR, line)


@contextmanager
def quiet_data() -> Iterator[None]:
    """Without Ray Data's log of tasks that failed, which are done again and said here."""
    logger = logging.getLogger("ray.data")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
