"""What the tests that run llama.cpp's server share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The key of the server under test, and the environment variable with it.
KEY = "sk-the-right-key-of-this-server"
VARIABLE = "KEY_OF_THE_LLAMA_SERVER"
#: Tokens of a prompt and its reply together.
CONTEXT = 1024


@dataclass(frozen=True)
class LlamaServer:
    """Where it is, without ``/v1``, what it calls its model, and the file of its log."""

    url: str
    model: str
    log: Path

    def count(self) -> int:
        """The chat completions that it has answered so far."""
        return self.log.read_text(errors="replace").count('"POST /v1/chat/completions HTTP/1.1" 200')
