"""`vllm serve`, a real server, through the backend `openai`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from abs_process import Abs
from real_server import RealServer
from vllm_support import KEY

from abs_core.errors import FatalProviderError
from abs_descriptions.generation.providers.base import Failure, Message, Parameters, Provider, Reply, Request
from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider

VARIABLE = "KEY_OF_THE_TEST_SERVER"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's key, in a variable of its own."""
    monkeypatch.setenv(VARIABLE, KEY)


def reach(server: RealServer, model: str | None = None) -> Provider:
    options = ProviderOptions(model=model or server.model, base_url=server.url, key_variable=VARIABLE, concurrency=16)
    return build_provider("openai", options)


def ask(name: str, sample: int = 0) -> Request:
    return Request((Message("user", f"What does {name} look like?"),), Parameters(max_tokens=12), sample)


def test_a_bundle_of_two_classes_comes_from_the_command_line(server: RealServer, run_abs: Abs, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("fox\ncastle\n")
    where = ("--backend", "openai", "--base-url", server.url, "--model", server.model, "--key-variable", VARIABLE)
    much = ("--prompts", "objects-small", "--per-class", "3", "--json")
    ran = run_abs("gen-descriptions", labels, "--name", "served", *where, *much)
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["complete"]
    bundle = run_abs.bundle("served")
    assert bundle.reference == told["bundle"]
    (generator,) = bundle.header.generators
    assert (generator.backend, generator.model) == ("openai", server.model)
    for class_id, records in bundle.descriptions().items():
        assert records
        assert all(class_id in record.text.lower() for record in records)
    for file in (path for path in run_abs.home.rglob("*") if path.is_file()):
        assert KEY.encode() not in file.read_bytes(), file
    assert KEY not in ran.out + ran.err


def test_lists_come_through_the_schema(server: RealServer, run_abs: Abs, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("fox\ncastle\n")
    where = ("--backend", "openai", "--base-url", server.url, "--model", server.model, "--key-variable", VARIABLE)
    much = ("--prompts", "descriptors-json", "--per-class", "3", "--max-tokens", "250", "--json")
    ran = run_abs("gen-descriptions", labels, "--name", "lists", *where, *much)
    assert ran.code == 0, ran.err
    records = list(run_abs.bundle("lists").records())
    assert records
    assert {record.kind for record in records} == {"phrase"}
    assert not any(mark in record.text for record in records for mark in ("{", "descriptions", "\n"))


def test_many_requests_at_once_get_replies_with_counted_tokens(server: RealServer) -> None:
    asked = [ask(name, sample) for name in ("a cat", "rain", "a tin spoon") for sample in range(8)]
    got = dict(reach(server).complete(asked))
    assert set(got) == set(asked)
    for reply in got.values():
        assert isinstance(reply, Reply)
        assert 1 <= reply.completion_tokens <= 12
        assert reply.prompt_tokens > 30


def test_a_request_that_the_server_refuses_fails_alone(server: RealServer) -> None:
    got = dict(reach(server).complete([ask("x " * 3000), ask("a cat")]))
    (failure,) = [outcome for outcome in got.values() if isinstance(outcome, Failure)]
    assert failure.reason.startswith("status 400: ")
    assert "maximum context length" in failure.reason
    assert sum(isinstance(outcome, Reply) for outcome in got.values()) == 1


def test_an_unknown_model_and_a_wrong_key_end_the_run(
    server: RealServer, run_abs: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FatalProviderError, match="has no such model or path"):
        list(reach(server, "no-such-model").complete([ask("a cat")]))
    monkeypatch.setenv(VARIABLE, "sk-some-other-key")
    labels = tmp_path / "labels.txt"
    labels.write_text("fox\n")
    where = ("--backend", "openai", "--base-url", server.url, "--model", server.model, "--key-variable", VARIABLE)
    ran = run_abs("gen-descriptions", labels, "--name", "none", *where)
    assert ran.code == 2
    assert "does not accept the key" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert "sk-some-other-key" not in ran.err
