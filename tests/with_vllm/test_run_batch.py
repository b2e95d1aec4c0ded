"""vLLM's own `run-batch` executes the file that the backend `openai-batch` writes, and its results are read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from vllm_support import MODEL_OPTIONS, OFFLINE

from abs_descriptions.generation.providers.base import Message, Parameters, Reply, Request
from abs_descriptions.generation.providers.error_responses import ResponseProblem
from abs_descriptions.generation.providers.openai_batch_api import read_batch_results, write_batch_file
from abs_descriptions.generation.providers.openai_server import OpenAIServer

SERVER = OpenAIServer("http://127.0.0.1:8000/v1", None)


def test_run_batch_executes_what_was_written_and_its_results_are_read(tmp_path: Path, model_folder: Path) -> None:
    drawn = Parameters(max_tokens=12)
    names = ("a cat", "rain", "a 小さな fox", "x " * 3000)
    asked = [Request((Message("user", f"What does {name} look like?"),), drawn, k) for name in names for k in range(3)]
    asked.append(
        Request((Message("user", "List features of a fox as JSON."),), Parameters(max_tokens=200), answer="list")
    )
    paper, results = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    written = write_batch_file(paper, asked, server=SERVER, model="smollm2", key={"backend": "openai-batch"})
    assert written.left is None
    assert sum(len(same) for same in written.requests.values()) == len(asked)

    command = [sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "-i", str(paper), "-o", str(results)]
    where = ["--model", str(model_folder), "--served-model-name", "smollm2"]
    ran = subprocess.run(
        [*command, *where, *MODEL_OPTIONS], env={**os.environ, **OFFLINE}, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr

    with results.open("rb") as lines:
        got = dict(read_batch_results(lines, SERVER.host))
    assert set(got) == set(written.requests)
    for name, (one, *_) in written.requests.items():
        found = got[name]
        if len(one.messages[0].content) > 1000:
            assert isinstance(found, ResponseProblem), found
            assert (found.action, found.status) == ("give up", 400)
        else:
            assert isinstance(found, Reply), found
            assert 1 <= found.completion_tokens <= one.parameters.max_tokens
            assert found.text.lstrip().startswith("{") or one.answer == "text"
