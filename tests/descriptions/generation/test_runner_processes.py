"""Generation at scale, with the embedded model, and in processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scripted_provider import PROMPTS, Script, good

from abs_core.labels import from_names
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import read_prompts
from abs_descriptions.generation.providers.base import Parameters
from abs_descriptions.generation.providers.transformers_local import TransformersProvider
from abs_descriptions.generation.runner import (
    GenerationPlan,
    run_generation,
)


@pytest.mark.slow
def test_thousands_of_classes_take_little_time_each() -> None:
    labels = from_names(f"kind {number}" for number in range(5_000))
    started = time.process_time()
    result = run_generation(labels, PROMPTS, Script(good), GenerationPlan(per_class=1))
    assert len(result.descriptions) == 5_000
    assert (time.process_time() - started) / 5_000 < 0.005


@pytest.mark.slow
def test_the_embedded_model_describes_classes_and_a_second_run_asks_nothing(
    small_model: TransformersProvider, tmp_path: Path
) -> None:
    labels = from_names(["rocket", "gravel", "brick wall", "microscope slide"])
    prompts, plan = read_prompts("objects-small"), GenerationPlan(per_class=3, parameters=Parameters(max_tokens=60))
    with Journal(tmp_path / "j.jsonl") as journal:
        result = run_generation(labels, prompts, small_model, plan, journal=journal)
    assert result.complete
    assert [line.accepted for line in result.report] == [3, 3, 3, 3]
    for one in result.descriptions:
        assert 5 <= len(one.text.split()) <= 60
        assert one.text.endswith((".", "!"))
    lines = (tmp_path / "j.jsonl").read_bytes()
    with Journal(tmp_path / "j.jsonl") as journal:
        assert run_generation(labels, prompts, small_model, plan, journal=journal) == result
    assert (tmp_path / "j.jsonl").read_bytes() == lines


RUNNER = """
import sys, time
from pathlib import Path
from abs_core.labels import from_names
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.runner import GenerationPlan, run_generation
prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "Tell {name}"},))
provider = OpenAIChatProvider("m", base_url=sys.argv[2], concurrency=4)
labels = from_names(f"kind {number}" for number in range(8))
with Journal(Path(sys.argv[1])) as journal:
    result = run_generation(labels, prompts, provider, GenerationPlan(per_class=10), journal=journal)
for one in result.descriptions:
    print(one.class_id, one.provenance.sample, one.text)
"""

STUB = """
import json, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(0.05)
        text = f"The {asked['messages'][-1]['content'][5:]} with the seed {asked['seed']} has a tail."
        print(text, flush=True)
        message = {"role": "assistant", "content": text}
        raw = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
    def log_message(self, *args): pass
ThreadingHTTPServer.request_queue_size = 128  # with five a busy machine resets connections
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gives_the_same_and_pays_nothing_twice(tmp_path: Path) -> None:
    pytest.importorskip("openai")
    log = tmp_path / "log"
    with log.open("wb") as stream, subprocess.Popen([sys.executable, "-c", STUB], stdout=stream) as server:
        try:
            deadline = time.monotonic() + 300
            while not log.read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
            url = f"http://127.0.0.1:{log.read_text().split()[0]}/v1"
            whole = _run(tmp_path / "whole.jsonl", url)
            paid = len(log.read_text().splitlines()) - 1
            assert paid == 80
            path, kills = tmp_path / "killed.jsonl", 0
            for size in (3, 20, 40):
                kills += _kill_at(path, url, size)
            assert kills == 3
            assert _run(path, url) == whole
            again = len(log.read_text().splitlines()) - 1 - paid
        finally:
            server.kill()
    # A kill loses at most what is under way at that moment: four requests each time.
    assert 80 <= again <= 80 + 4 * kills
    marks = [json.loads(line)["request"] for line in path.read_text().splitlines()[1:]]
    assert len(marks) == len(set(marks)) == 80


def _run(journal: Path, url: str) -> str:
    command = [sys.executable, "-c", RUNNER, str(journal), url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _kill_at(journal: Path, url: str, lines: int) -> bool:
    """Start a run and kill it as soon as its journal has so many lines."""
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(journal), url], stdout=subprocess.DEVNULL) as run:
        while run.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") > lines:
                os.kill(run.pid, signal.SIGKILL)
                return True
            time.sleep(0.002)
    return False
