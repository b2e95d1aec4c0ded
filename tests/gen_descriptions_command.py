"""`abs gen-descriptions` against a chat server that follows a script, for the tests of the command."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

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
PRICES = ("--price-in", "1000", "--price-out", "2000")
Answer = str | tuple[int, str]


def good(name: str, body: dict[str, Any]) -> str:
    return f"This {name} number {body['seed']} has soft ears and a tail."


def late(seconds: float, text: str) -> str:
    time.sleep(seconds)
    return text


@dataclass
class ChatScript:
    """A chat server; ``behave(name, body)`` gives the reply to a question about a class, or a status and a message."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: tuple[int, int] = (20, 10)
    behave: Callable[[str, dict[str, Any]], Answer] = good
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server.lock:
                    server.asked.append(body)
                name = body["messages"][-1]["content"].partition(" ")[2]
                answer = server.behave(name, body)
                status, raw = (
                    (200, server.completion(answer)) if isinstance(answer, str) else (answer[0], _error(answer[1]))
                )
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        return Handler

    def wait_for(self, requests: int) -> None:
        """Return when so many have come."""
        deadline = time.monotonic() + 60
        while len(self.asked) < requests and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(self.asked) >= requests

    def completion(self, text: str) -> bytes:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": self.tokens[0], "completion_tokens": self.tokens[1]}
        return json.dumps({"choices": [choice], "usage": usage}).encode()


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "", "code": ""}}).encode()


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
