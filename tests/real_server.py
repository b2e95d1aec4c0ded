"""`transformers serve`: a real server that speaks the OpenAI protocol, with a model in a folder, on loopback."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RealServer:
    """Where it is, and what it calls its model."""

    url: str
    model: str


def find_command() -> Path | None:
    """The command of the interpreter that runs this; None where it is not installed."""
    command = Path(sys.executable).with_name("transformers")
    return command if command.is_file() else None


@contextmanager
def transformers_serve(model: Path, scratch: Path) -> Iterator[RealServer]:
    """Run the server in a process of its own, on one thread and without a way to a hub.

    Args:
        model: a Hugging Face folder.
        scratch: an empty folder, for its log and what it takes for its home.
    """
    port = free_port()
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(scratch)}
    log = scratch / "log.txt"
    arguments = ["serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(find_command()), *arguments], env={**os.environ, **quiet}, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            wait_until_up(process, port, log)
            yield RealServer(f"http://127.0.0.1:{port}/v1", str(model))
        finally:
            process.terminate()
            process.wait(120)


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_until_up(
    process: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 120, path: str = "/health"
) -> None:
    """Wait until a server says that it is healthy; fail with its log where it ends, or takes longer than this."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise AssertionError(f"the server did not come up: {log.read_text()}")
