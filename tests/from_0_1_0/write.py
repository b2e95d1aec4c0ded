"""Write what lies beside this file with the commands of 0.1.0, from a checkout of that release.

    git worktree add /path/to/old 2c86f93
    python tests/from_0_1_0/write.py /path/to/old

The environment is that of the tests; nothing of today's packages is imported.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
WRITTEN = HERE / "written"
# whoever answers for this host is a proxy: the address is part of what a reply is found by
SERVER = ("--model", "m", "--base-url", "http://models.example/v1")
LABELS = ["cat", "dog", "field vole"]
BATCH = {
    "id": "batch_0",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "input_file_id": "file-0",
    "completion_window": "24h",
    "created_at": 0,
    "status": "validating",
}
PROMPTS = """id: voles
version: 1
description: two questions
prompts:
  - {id: a, text: 'Tell {name}'}
  - {id: b, text: 'Say {name}'}
"""
CUPL = {"cat": ["A cat with a white chest.", "A cat that sleeps on a chair."], "dog": ["A dog with a wet nose."]}


class LanguageModel(http.server.BaseHTTPRequestHandler):
    """A proxy that is the server itself: chat completions, ``limit`` of them, and a batch that never ends."""

    protocol_version = "HTTP/1.1"
    answered = 0
    limit = 10**9

    def do_POST(self) -> None:
        """Answer a request, keep an uploaded file, or create a batch."""
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/files"):
            part = re.search(rb"\r\n\r\n(\{.*?\n)\r?\n?--", raw[raw.index(b'name="file"') :], re.DOTALL)
            assert part is not None
            (WRITTEN / "batch-input.jsonl").write_bytes(part[1])
            return self._send({"id": "file-0", "object": "file", "bytes": len(part[1]), "purpose": "batch"})
        if self.path.endswith("/batches"):
            return self._send(BATCH)
        LanguageModel.answered += 1
        if LanguageModel.answered > LanguageModel.limit:
            time.sleep(3600)
        body = json.loads(raw)
        prompt = body["messages"][-1]["content"]
        name = next(label for label in LABELS if label in prompt)
        text = f"A {name} with soft ears and number {body['seed'] % 1000} of {len(prompt)} on its tail."
        message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        start = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
        return self._send({**start, "choices": [message], "usage": usage})

    def do_GET(self) -> None:
        """Show the batch."""
        LanguageModel.answered += 1
        self._send({**BATCH, "status": "in_progress"})

    def _send(self, value: object) -> None:
        raw = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Old:
    """The command line of a checkout."""

    def __init__(self, checkout: Path, proxy: str) -> None:
        self._code = "import sys; from abs_cli.main import main; main(sys.argv[1:])"
        self._environment = {**os.environ, "PYTHONPATH": str(checkout), "OPENAI_API_KEY": "k", "OMP_NUM_THREADS": "1"}
        self._environment |= {"HTTP_PROXY": proxy, "NO_PROXY": ""}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command with the home of this folder."""
        command = [sys.executable, "-W", "ignore", "-c", self._code, "--home", "home", *arguments]
        return subprocess.Popen(command, cwd=WRITTEN, env=self._environment)

    def __call__(self, *arguments: str) -> None:
        if code := self.start(*arguments).wait():
            raise SystemExit(f"{arguments} ended with {code}")


def write_bundles(abs_command: Old) -> None:
    """Versions of ``birds``, one of them yanked, and what they were made of; a review file."""
    abs_command(
        *("gen-descriptions", "labels.txt", "--name", "birds", "--per-class", "3", "--licence", "CC0-1.0"),
        *("--backend", "openai", *SERVER),
    )
    abs_command("bundle", "review", "birds", "--out", "review")
    (sheet,) = (WRITTEN / "review").glob("*.csv")
    lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    column = lines[0].split(",").index("decision")
    rows = [lines[1].split(","), lines[2].split(",")]
    rows[0][column], rows[1][column] = "reject", "accept"
    decided = WRITTEN / "decided.csv"
    decided.write_text("\n".join([lines[0], *(",".join(row) for row in rows), *lines[3:]]) + "\n", encoding="utf-8-sig")
    abs_command("bundle", "review", "birds", "--read", "decided.csv", "--reviewer", "Ada")
    decided.unlink()
    next((WRITTEN / "review").glob("*.html")).unlink()
    abs_command("bundle", "yank", "birds@1.0.0", "--reason", "too short")
    (WRITTEN / "cupl.json").write_text(json.dumps(CUPL), encoding="utf-8")
    abs_command("bundle", "import", "cupl.json", "--name", "pets", "--licence", "CC0-1.0")
    abs_command("bundle", "merge", "birds", "pets", "--name", "both", "--labels", "labels.txt")
    abs_command("filter-descriptions", "both", "--near-duplicate", "0.7", "--off-topic", "off", "--nearer", "off")


def write_interrupted(abs_command: Old) -> None:
    """Two generations that were killed: one after five replies, the other while its batch was under way."""
    for name, backend, limit in (("voles", "openai", 5), ("mice", "openai-batch", 1)):
        LanguageModel.answered, LanguageModel.limit = 0, limit
        process = abs_command.start(
            *("gen-descriptions", "labels.txt", "--name", name, "--per-class", "4", "--prompts", "prompts.yaml"),
            *("--backend", backend, *SERVER, *(("--concurrency", "1") if backend == "openai" else ())),
        )
        while LanguageModel.answered <= limit * (backend == "openai"):
            time.sleep(0.05)
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
        process.wait()


def write_results(abs_command: Old) -> None:
    """Two runs of the embedded model on images of noise, and the cache of both."""
    for seed in range(2 * len(LABELS)):
        path = WRITTEN / "images" / LABELS[seed // 2] / f"{seed % 2}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (16, 20, 3))
        Image.fromarray(noise.astype(np.uint8)).save(path)
    run = ("eval", "--dataset", "imagefolder:./images", "--views", "2", "--methods", "clip,abs")
    for seed in "01":
        abs_command(*run, "--bundle", "both", "--seed", seed)
    # what is large: nothing reads it any more
    for folder in ("derived", "v1/view-features", "v1/sentence-embeddings"):
        shutil.rmtree(WRITTEN / "home" / "cache" / folder, ignore_errors=True)


def main() -> None:
    """Write everything anew."""
    shutil.rmtree(WRITTEN, ignore_errors=True)
    WRITTEN.mkdir()
    (WRITTEN / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    (WRITTEN / "prompts.yaml").write_text(PROMPTS, encoding="utf-8")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), LanguageModel)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    old = Old(Path(sys.argv[1]).resolve(), f"http://127.0.0.1:{server.server_port}")
    write_bundles(old)
    write_results(old)
    write_interrupted(old)


if __name__ == "__main__":
    main()
