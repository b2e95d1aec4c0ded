"""A process that has imported everything and runs `abs` in a fork of itself each time, to be killed as a test says.

Starting takes a second or more, most of it imports, which a few hundred kills cannot afford. Requests are lines of JSON
on stdin, answers are lines of JSON on stdout; see ``killed_commands``, which starts this file.

A run has numbered crash points: what changes files below the watched folders (opening for writing, creating, renaming,
linking, removing, waiting for the disk) and what goes over the network. At each of them everything before has
happened, and the named step has not.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Images of a pass: with few images there are several passes all the same.
SHARD = 4

_BY_PATH = {
    "os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.utime",
    "shutil.rmtree", "sqlite3.connect",
}  # fmt: skip
_NETWORK = {"socket.connect", "http.client.send"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class CrashPoints:
    """Counts the crash points of this process, writes them down, and ends or interrupts it at one of them.

    Args:
        watched: only what happens to files below these folders counts.
        number: of the point, from 1 on, at which the signal comes; 0 for none.
        stop: the number of the signal.
        log: of the points, a line each: number, step, path and, of renamed files, whether the disk has their bytes.
    """

    def __init__(self, watched: list[str], number: int, stop: int, log: str | None) -> None:
        self._watched, self._number, self._stop = tuple(watched), number, stop
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._count = 0
        self._synced = set[tuple[int, int]]()
        self._lock = threading.RLock()
        self._fsync = os.fsync

    def install(self) -> None:
        """Watch this process from now on."""
        os.fsync = self._sync
        sys.addaudithook(self._hear)

    def _sync(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        status = os.fstat(number)
        link = Path(f"/proc/self/fd/{number}")
        path = link.readlink() if link.is_symlink() else Path(self._watched[0])
        self._note("fsync", path)
        self._synced.add((status.st_dev, status.st_ino))
        self._fsync(handle)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if isinstance(args[2], int) and args[2] & _WRITES:
                self._note("open", args[0])
        elif event in _BY_PATH:
            path = args[1] if event in ("os.link", "os.symlink") else args[0]
            self._note(event, path, args[0] if event in ("os.rename", "os.link") else None)
        elif event in _NETWORK:
            self._note(event, self._watched[0])

    def _note(self, step: str, path: Any, source: Any = None) -> None:
        if isinstance(path, int):
            return
        text = str(Path(os.fsdecode(path)).absolute())
        if not text.startswith(self._watched):
            return
        with self._lock:
            self._count += 1
            if self._log is not None:
                state = "" if source is None else self._state(source)
                os.write(self._log, f"{self._count}\t{step}\t{text}\t{state}\n".encode())
            if self._count == self._number:
                os.kill(os.getpid(), self._stop)

    def _state(self, source: Any) -> str:
        path = Path(os.fsdecode(source))
        if not path.is_file():
            return "folder" if path.is_dir() else ""
        status = path.stat()
        return "synced" if (status.st_dev, status.st_ino) in self._synced or not status.st_size else "unsynced"


def _import_everything() -> None:
    import abs_classify.encoding.stages as stages

    stages.SHARD = SHARD
    for package in ("abs_core", "abs_descriptions", "abs_classify", "abs_cli"):
        module = importlib.import_module(package)
        for found in pkgutil.walk_packages(module.__path__, f"{package}."):
            if not found.name.endswith("__main__"):
                importlib.import_module(found.name)
    for name in ("open_clip", "openai", "PIL.PngImagePlugin", "huggingface_hub.file_download", *sys.argv[1:]):
        try:
            importlib.import_module(name)
        except ImportError:
            continue


def _run(request: Mapping[str, Any]) -> None:
    """Become the command; in the fork."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number, name in ((1, "out"), (2, "err")):
        handle = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, number)
        os.close(handle)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request["environment"])
    if "HF_HOME" in request["environment"]:  # read once, when the client is imported
        import huggingface_hub.constants as constants

        constants.HF_HUB_CACHE = request["environment"]["HF_HOME"] + "/hub"
    tempfile.tempdir = None
    if request["later"]:
        now = time.time
        time.time = lambda: now() + request["later"]
    points = CrashPoints(request["watched"], request["point"], request["signal"], request["log"])
    points.install()
    from abs_cli.main import main

    main(request["arguments"])


def _serve() -> None:
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _import_everything()
    gc.freeze()  # else every fork looks through it, and copies it
    assert threading.active_count() == 1, threading.enumerate()
    print(json.dumps("ready"), file=answers, flush=True)
    for line in requests:
        request = json.loads(line)
        start = time.monotonic()
        process = os.fork()
        if not process:
            requests.close()
            answers.close()
            _run(request)
            raise AssertionError("a command ends the process")
        print(json.dumps({"process": process}), file=answers, flush=True)
        delay = request["delay"]
        if delay is not None and signal.sigtimedwait({signal.SIGCHLD}, delay) is None:
            os.kill(process, request["signal"])
        _, status = os.waitpid(process, 0)
        while signal.sigtimedwait({signal.SIGCHLD}, 0) is not None:
            pass
        code, seconds = os.waitstatus_to_exitcode(status), time.monotonic() - start
        print(json.dumps({"code": code, "seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    _serve()
