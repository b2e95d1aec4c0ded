"""Fixtures of the tests that run vLLM: `make test-vllm` runs them, in an environment with it; others skip them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from abs_process import Abs
from real_server import RealServer, free_port, wait_until_up
from vllm_support import KEY, MODEL_OPTIONS, OFFLINE

from abs_core.extras import is_installed
from abs_descriptions.generation.providers.model_files import EMBEDDED_SHA256, find_embedded_model, unpack_gguf


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything here where vLLM is not installed, and say so."""
    if is_installed("vllm"):
        return
    why = "vLLM is not in this environment and was NOT tested; `make test-vllm` tests it in one of its own"
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder in which the embedded model is unpacked already."""
    folder = tmp_path_factory.mktemp("cache")
    unpack_gguf(find_embedded_model(), EMBEDDED_SHA256, folder / "derived")
    return folder


@pytest.fixture(scope="session")
def model_folder(cache: Path) -> Path:
    """The embedded model as a Hugging Face folder."""
    return cache / "derived" / EMBEDDED_SHA256.removeprefix("sha256:")


@pytest.fixture
def run_abs(tmp_path: Path, cache: Path) -> Abs:
    """`abs` with an empty home."""
    return Abs(tmp_path / "home", cache)


@pytest.fixture(scope="session")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """`vllm serve` on loopback, with a key."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_folder)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "smollm2", "--api-key", KEY]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, *where, *MODEL_OPTIONS],
            env={**os.environ, **OFFLINE},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_up(process, port, log, seconds=600)
            yield RealServer(f"http://127.0.0.1:{port}/v1", "smollm2")
        finally:
            process.terminate()
            process.wait(60)
