"""`abs gen-descriptions` against a chat server that follows a script, for the tests of the command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import Answer, Seen, Server, completion, error
from support import ROOT, Abs, Ran

from abs_descriptions.bundles import Bundle
from abs_descriptions.bundles.repository import Repository

KEY = "sk-test-0123456789-very-secret"
PROMPTS = """
id: test
version: 1
description: d
prompts:
  - {id: a, text: 'Tell {name}'}
  - {id: b, text: 'Say {name}'}
"""
#: The text of a reply, a status and a message, or the whole answer.
ChatReply = str | tuple[int, str] | Answer
PRICES = ("--price-in", "1000", "--price-out", "2000")


def good(name: str, body: dict[str, Any]) -> str:
    return f"This {name} number {body['seed']} has soft ears and a tail."


def late(seconds: float, text: str) -> str:
    time.sleep(seconds)
    return text


@dataclass
class ChatScript(Server):
    """A chat server; ``behave(name, body)`` gives the reply to a question about a class, or a status and a message."""

    tokens: tuple[int, int] = (20, 10)
    behave: Callable[[str, dict[str, Any]], ChatReply] = good

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The bodies of all requests so far."""
        return [seen.body for seen in self.seen]

    def answer(self, number: int, seen: Seen) -> Answer:
        reply = self.behave(seen.body["messages"][-1]["content"].partition(" ")[2], seen.body)
        if isinstance(reply, Answer):
            return reply
        if isinstance(reply, str):
            return completion(reply, prompt=self.tokens[0], drawn=self.tokens[1])
        return error(reply[0], message=reply[1])

    def wait_for(self, requests: int) -> None:
        """Return when this many requests have arrived."""
        deadline = time.monotonic() + 300
        while len(self.seen) < requests and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(self.seen) >= requests


@dataclass
class Generate:
    """Writes a label file and a prompt file, and runs `abs gen-descriptions` on them."""

    run: Abs
    server: ChatScript
    folder: Path

    def arguments(self, names: list[str] | Path, *options: str | Path, name: str = "zoo") -> list[str]:
        labels = names if isinstance(names, Path) else self.folder / "labels.txt"
        if not isinstance(names, Path):
            labels.write_text("\n".join(names) + "\n", encoding="utf-8")
        (self.folder / "prompts.yaml").write_text(PROMPTS, encoding="utf-8")
        base = [labels, "--name", name, "--backend", "openai", "--model", "m", "--base-url", self.server.url]
        given = [] if "--prompts" in options else ["--prompts", self.folder / "prompts.yaml"]
        return ["gen-descriptions", *[str(one) for one in (*base, *given, *options)]]

    def __call__(self, names: list[str] | Path, *options: str | Path, name: str = "zoo") -> Ran:
        return self.run(*self.arguments(names, *options, name=name))

    def refuses(self, names: list[str] | Path, *options: str | Path) -> str:
        return self.run.refuses(*self.arguments(names, *options))

    def start(self, *arguments: str, home: Path | None = None, **popen: Any) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        command = [sys.executable, "-c", "from abs_cli.main import main; main()"]
        folders = ["--home", str(home or self.run.home), "--cache", str(self.run.cache)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **popen}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
        return subprocess.Popen([*command, *folders, *arguments], env=environment, **pipes)

    def bundle(self, reference: str = "zoo@1.0.0", home: Path | None = None) -> Bundle:
        return Repository.local((home or self.run.home) / "bundles").read(reference)

    def journal(self, home: Path | None = None) -> list[dict[str, Any]]:
        lines = ((home or self.run.home) / "journals" / "zoo.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[1:]]


NAMES = ["cat", "dog", "cow", "owl"]


def texts(bundle: Bundle) -> list[tuple[str, str]]:
    return [(one.class_id, one.text) for one in bundle.records()]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
