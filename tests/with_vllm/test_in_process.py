"""The backend `vllm` with the embedded model: replies, lists, bad requests, Ctrl-C, and a script without the guard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from abs_process import Abs

from abs_core.errors import FatalProviderError, UsageError
from abs_descriptions.generation.prompts import read_prompts
from abs_descriptions.generation.providers.base import Failure, Message, Parameters, Reply, Request
from abs_descriptions.generation.providers.model_files import EMBEDDED_SHA256
from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider
from abs_descriptions.generation.providers.vllm import VLLMProvider, _outcome, _sampling

BATCH = 12


@pytest.fixture(scope="module")
def provider(cache: Path) -> Iterator[VLLMProvider]:
    """One engine for all tests of this file; it takes half a minute to start."""
    made = build_provider("vllm", ProviderOptions(batch_size=BATCH, keep=cache / "derived"))
    assert isinstance(made, VLLMProvider)
    yield made
    made.close()


def request(name: str, sample: int = 0, parameters: Parameters | None = None) -> Request:
    return Request((Message("user", f"What does {name} look like?"),), parameters or Parameters(max_tokens=9), sample)


def test_every_request_gets_a_reply_within_its_limit_batch_by_batch(provider: VLLMProvider) -> None:
    taken = 0

    def asked() -> Iterator[Request]:
        nonlocal taken
        for sample in range(5):
            for name in ("a cat", "a very long brick wall beside a river", "rain", "a tin spoon", "a fox", "fog"):
                taken += 1
                yield request(name, sample, Parameters(max_tokens=6 + sample, temperature=1.0))

    outcomes = provider.complete(asked())
    first = next(outcomes)
    assert taken == BATCH
    got = [first, *outcomes]
    assert len(got) == taken == 30
    for one, reply in got:
        assert isinstance(reply, Reply)
        assert 1 <= reply.completion_tokens <= one.parameters.max_tokens
        assert reply.finish_reason == "stop" or reply.completion_tokens == one.parameters.max_tokens
        assert 30 < reply.prompt_tokens < 60
    # Each outcome belongs to its request: the longer question is the longer prompt.
    tokens = {one.messages[0].content: reply.prompt_tokens for one, reply in got if isinstance(reply, Reply)}
    assert max(tokens, key=lambda question: tokens[question]).startswith("What does a very long brick wall")
    assert len({reply.text for one, reply in got if "cat" in one.messages[0].content and isinstance(reply, Reply)}) > 1


def test_a_request_is_drawn_with_its_own_seed_and_its_own_limits() -> None:
    told = _sampling(request("a cat", 3, Parameters(max_tokens=77, temperature=0.3, top_p=0.6, seed=5)))
    assert (told.max_tokens, told.temperature, told.top_p) == (77, 0.3, 0.6)
    assert told.seed == request("a cat", 3, Parameters(seed=5)).draw_seed
    assert told.structured_outputs is None
    free = _sampling(request("a cat", 0, Parameters(temperature=None, top_p=None, seed=None)))
    assert (free.temperature, free.top_p, free.seed) == (1.0, 1.0, None)


def test_a_prompt_that_does_not_fit_fails_alone(provider: VLLMProvider) -> None:
    asked = [request("a cat"), request("a dog"), request("x " * 9000), request("a fox")]
    got = list(provider.complete(asked))
    assert [one for one, _ in got] == asked
    assert [type(outcome) for _, outcome in got] == [Reply, Reply, Failure, Reply]
    failure = got[2][1]
    assert isinstance(failure, Failure)
    assert "maximum context length" in failure.reason


def test_where_a_list_is_asked_for_the_model_is_held_to_it(provider: VLLMProvider) -> None:
    prompts = read_prompts("descriptors-json")
    turns = [prompts.messages(prompts.prompts[0], name) for name in ("fox", "castle", "spoon", "oak")]
    drawn = Parameters(max_tokens=250, temperature=1.0)
    # Without examples and schema a model of this size writes no JSON.
    asked = [Request(one, drawn, sample, answer="list") for one in turns for sample in range(3)]
    ended = [(one, reply) for one, reply in provider.complete(asked) if isinstance(reply, Reply)]
    whole = [(one, reply) for one, reply in ended if reply.finish_reason == "stop"]
    assert len(whole) >= 6
    for _, reply in whole:
        assert 1 <= len(json.loads(reply.text)["descriptions"]) <= 12


def test_what_vllm_calls_finished_is_a_reply_only_with_a_text() -> None:
    from vllm.outputs import CompletionOutput, RequestOutput

    def outcome(text: str, finish: str | None) -> Reply | Failure:
        drawn = CompletionOutput(0, text, [5, 6], None, None, finish_reason=finish)
        return _outcome(RequestOutput("0", "p", [1, 2, 3], None, [drawn], finished=True))

    assert outcome(" A fox. ", "stop") == Reply("A fox.", "stop", 3, 2)
    assert outcome("A fo", "length") == Reply("A fo", "length", 3, 2)
    assert outcome(" \n", "stop") == Failure("an empty reply")
    assert outcome("A fox.", "abort") == Failure("the reply ended with 'abort'")


def test_the_key_needs_no_vllm_and_knows_weights_and_dtype() -> None:
    assert VLLMProvider().key() == {"backend": "vllm", "weights": EMBEDDED_SHA256, "dtype": "auto"}
    assert VLLMProvider(dtype="float32").key() != VLLMProvider().key()
    assert VLLMProvider(batch_size=3).key() == VLLMProvider().key()


def test_what_cannot_work_is_refused_before_vllm_is_imported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch size"):
        VLLMProvider(batch_size=0)
    with pytest.raises(UsageError, match="dtype"):
        VLLMProvider(dtype="int4")  # type: ignore[arg-type]
    with pytest.raises(FatalProviderError, match="unknown local language model"):
        VLLMProvider("some/model")
    with pytest.raises(UsageError, match="base_url"):
        build_provider("vllm", ProviderOptions(base_url="http://127.0.0.1:1/v1"))


def test_a_folder_that_is_no_model_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FatalProviderError, match="cannot load the model"):
        list(VLLMProvider(str(tmp_path)).complete([request("a cat")]))


def test_a_script_without_the_guard_ends_and_says_what_is_missing(tmp_path: Path, model_folder: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from abs_descriptions.generation.providers.base import Message, Parameters, Request\n"
        "from abs_descriptions.generation.providers.vllm import VLLMProvider\n"
        f"backend = VLLMProvider({str(model_folder)!r})\n"
        "print(list(backend.complete([Request((Message('user', 'Hello'),), Parameters())])))\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert "this script starts vLLM while it is imported" in ran.stderr
    assert "FatalProviderError: vLLM cannot load the model" in ran.stderr
    assert "if __name__ == '__main__':" in ran.stderr.splitlines()[-1]


def test_ctrl_c_keeps_what_is_there_and_the_same_command_goes_on(run_abs: Abs, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("fox\ncastle\n")
    command = ("gen-descriptions", labels, "--name", "things", "--backend", "vllm", "--batch-size", "4", "--json")
    asked = (*command, "--per-class", "6", "--tries", "2", "--max-tokens", "40")
    first = run_abs.start(*asked)
    journal = run_abs.home / "journals" / "things.jsonl"
    end = time.monotonic() + 600
    while not journal.is_file() or len(journal.read_bytes().splitlines()) < 5:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
    # As a terminal does: to vLLM's processes too.
    os.killpg(first.pid, signal.SIGINT)
    out, err = first.communicate(timeout=300)
    assert first.returncode == 130, err
    assert "Traceback" not in err
    kept = journal.read_bytes().splitlines()
    if out:
        assert not json.loads(out)["complete"]

    second = run_abs(*asked)
    assert second.code == 0, second.err
    told = json.loads(second.out)
    assert told["complete"]
    assert told["reused"] >= len(kept) - 1 >= 4
    assert journal.read_bytes().splitlines()[: len(kept)] == kept
    header = run_abs.bundle("things").header
    (generator,) = header.generators
    assert generator.backend == "vllm"
    assert generator.prompts is not None
    assert generator.prompts.id == "objects-small"
    assert set(run_abs.bundle("things").descriptions()) == {one.id for one in header.label_set.classes}

    third = run_abs(*asked)
    told = json.loads(third.out)
    assert (told["new"], told["reused"]) == (False, told["replies"])
    assert told["seconds"] < 10
