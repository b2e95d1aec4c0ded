"""llama.cpp's Python server, a real server that answers one request at a time, through the backend `openai`."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from abs_process import Abs
from llama_cpp_support import KEY, VARIABLE, LlamaServer

from abs_core.errors import FatalProviderError
from abs_descriptions.generation.providers.base import Failure, Message, Parameters, Provider, Reply, Request
from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider


def reach(server: LlamaServer, timeout: float | None = None) -> Provider:
    options = ProviderOptions(model=server.model, base_url=server.url, key_variable=VARIABLE, timeout=timeout)
    return build_provider("openai", options)


def request(name: str, sample: int = 0, max_tokens: int = 12) -> Request:
    return Request((Message("user", f"What does {name} look like?"),), Parameters(max_tokens=max_tokens), sample)


def test_a_bundle_of_two_classes_comes_from_the_command_line_and_nothing_is_sent_twice(
    server: LlamaServer, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("fox\ncastle\n")
    run_abs = Abs(tmp_path / "home", tmp_path / "cache")
    where = ("--backend", "openai", "--base-url", server.url, "--model", server.model, "--key-variable", VARIABLE)
    much = ("--prompts", "objects-small", "--per-class", "3", "--json")
    before = server.count()
    ran = run_abs("gen-descriptions", labels, "--name", "served", *where, *much)
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["complete"]
    assert server.count() - before == told["replies"]
    (generator,) = run_abs.bundle("served").header.generators
    assert (generator.backend, generator.model) == ("openai", server.model)
    for file in (path for path in run_abs.home.rglob("*") if path.is_file()):
        assert KEY.encode() not in file.read_bytes(), file
    assert KEY not in ran.out + ran.err

    again = run_abs("gen-descriptions", labels, "--name", "served", *where, *much)
    assert again.code == 0, again.err
    assert json.loads(again.out)["reused"] == told["replies"]
    assert server.count() - before == told["replies"]


def test_sixteen_at_once_are_too_many_for_the_timeout_and_none_is_sent_twice(server: LlamaServer) -> None:
    list(reach(server).complete([request("rain")]))
    began = time.monotonic()
    list(reach(server).complete([request("rain", 1)]))
    # The default concurrency is 16, and this timeout is one that sixteen requests in a row do not meet.
    timeout = max(2.0, 6 * (time.monotonic() - began))
    before = server.count()
    outcomes = dict(reach(server, timeout).complete([request("rain", sample) for sample in range(16)]))
    assert all(isinstance(outcome, Reply) for outcome in outcomes.values())
    assert server.count() - before == len(outcomes) == 16


def test_tokens_are_counted_and_samples_differ(server: LlamaServer) -> None:
    outcomes = dict(reach(server).complete([request("a tin spoon", sample) for sample in range(6)]))
    texts = set()
    for reply in outcomes.values():
        assert isinstance(reply, Reply)
        assert 1 <= reply.completion_tokens <= 12
        assert reply.prompt_tokens > 30
        texts.add(reply.text)
    assert len(texts) > 1


def test_a_prompt_that_does_not_fit_fails_alone(server: LlamaServer) -> None:
    outcomes = list(reach(server).complete([request("x " * 2000), request("a cat")]))
    (failure,) = [outcome for _, outcome in outcomes if isinstance(outcome, Failure)]
    assert failure.kind == "status 400"
    assert "maximum context length" in failure.reason
    assert sum(isinstance(outcome, Reply) for _, outcome in outcomes) == 1


def test_a_wrong_key_ends_the_run_in_the_words_of_the_server(
    server: LlamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "sk-some-other-key")
    with pytest.raises(FatalProviderError, match="does not accept the key: Invalid API key"):
        list(reach(server).complete([request("a cat")]))
