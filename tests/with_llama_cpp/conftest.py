"""Fixtures of the tests that run llama.cpp's server: `make test-llama-cpp` runs them; others skip them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_cpp_support import CONTEXT, KEY, VARIABLE, LlamaServer
from real_server import free_port, wait_until_up

from abs_descriptions.generation.providers.model_files import find_embedded_model

# The interpreter of the environment that has llama-cpp-python and nothing of ours.
_PYTHON = os.environ.get("LLAMA_CPP_PYTHON", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here where llama.cpp is not installed, and say so."""
    if _PYTHON:
        return
    why = "llama.cpp was NOT tested; `make test-llama-cpp` tests it with an environment of its own"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    """The Python server of llama.cpp with the embedded model, as it runs by default, with a key."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    command = [_PYTHON, "-m", "llama_cpp.server", "--model", str(find_embedded_model()), "--model_alias", "smollm2"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", str(CONTEXT), "--api_key", KEY]
    with log.open("w") as stream:
        process = subprocess.Popen([*command, *where], stdout=stream, stderr=subprocess.STDOUT)
        try:
            wait_until_up(process, port, log, path="/openapi.json")
            yield LlamaServer(f"http://127.0.0.1:{port}", "smollm2", log)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's key, in a variable of its own."""
    monkeypatch.setenv(VARIABLE, KEY)
