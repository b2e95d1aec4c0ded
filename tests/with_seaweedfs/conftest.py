"""SeaweedFS, a second real server of S3's language: `make test-seaweedfs` runs these tests; others skip them."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from feature_buckets import environment_of
from real_server import free_port

# The binary, in an environment of its own.
_WEED = os.environ.get("SEAWEEDFS", "")
_PARTS = ("master", "volume", "filer", "s3")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here where SeaweedFS is not installed, and say so."""
    if _WEED:
        return
    why = "SeaweedFS was NOT tested; `make test-seaweedfs` tests it with an environment of its own"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server, all of it on loopback."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    ports = {f"{part}.port{kind}": free_port() for part in _PARTS for kind in ("", ".grpc")}
    options = [f"-{name}={port}" for name, port in ports.items()]
    sizes = ["-volume.max=20", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    where = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    with (folder / "log.txt").open("w") as log:
        command = [_WEED, "server", "-s3", "-master.telemetry=false", *where, *options, *sizes]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _create_bucket(process, url, folder / "log.txt")
            yield url
        finally:
            process.kill()  # which has nothing to keep
            process.wait(30)


@pytest.fixture(autouse=True)
def environment(address: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What leads every client to the server."""
    variables = environment_of(address)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


def _create_bucket(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the server takes files."""
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            for method, path, data in (("PUT", "/team", None), ("PUT", "/team/first", b"1")):
                with urllib.request.urlopen(urllib.request.Request(url + path, data, method=method), timeout=10):
                    pass
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"SeaweedFS did not start:\n{log.read_text(errors='replace')[-2000:]}")
