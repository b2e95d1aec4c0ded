"""The openai-batch backend against a server with files and batches, one of whose models is real. Takes seconds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from servers import Answer, BatchServer, Seen, completion_body, error, execute_on, serving
from support import ROOT

from abs_core.errors import BackendError, FatalBackendError, StorageError, UsageError
from abs_core.labels import from_names
from abs_descriptions.generation.cost import Budget, Prices
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import (
    Failure,
    Message,
    Outcome,
    Parameters,
    Reply,
    Request,
    Tokens,
    max_tokens_per_attempt,
)
from abs_descriptions.generation.providers.openai_batch import BatchRecord, BatchRecords, OpenAIBatchProvider
from abs_descriptions.generation.providers.openai_batch_api import custom_id, read_batch_results, write_batch_file
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.openai_server import OpenAIServer
from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider
from abs_descriptions.generation.providers.response_validation import ResponseProblem
from abs_descriptions.generation.providers.retry import RetryPolicy
from abs_descriptions.generation.providers.transformers_local import TransformersProvider
from abs_descriptions.generation.runner import GenerationPlan, StopReason, run_generation

pytest.importorskip("openai")
KEY = "sk-test-0123456789-very-secret"
HASTE = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.02, longest_retry_after=5, give_up_after=20, timeout=10)


def echo(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
    return [(200, completion_body(f"re: {body['messages'][-1]['content']}")) for body in bodies]


@pytest.fixture
def server(no_ambient_key: None) -> Iterator[BatchServer]:
    with serving(BatchServer(execute=echo)) as state:
        yield state


def request(number: int) -> Request:
    return Request((Message("user", f"question {number}"),), Parameters(max_tokens=20), tag=number)


def provider_at(server: Any, keep: Path, **options: Any) -> OpenAIBatchProvider:
    settings = {"poll_interval": 0.01, "retry_policy": HASTE, **options}
    return OpenAIBatchProvider("m", keep, base_url=server.url, **settings)


def ask(provider: OpenAIBatchProvider, count: int) -> dict[int, Outcome]:
    return {asked.tag: outcome for asked, outcome in provider.complete(request(number) for number in range(count))}


def ask_until_the_end(provider: OpenAIBatchProvider, count: int) -> tuple[dict[int, Outcome], FatalBackendError]:
    """What a run that ends with an error gives before it."""
    got = {}
    outcomes = provider.complete(request(number) for number in range(count))
    while True:
        try:
            asked, outcome = next(outcomes)
        except FatalBackendError as end:
            return got, end
        got[asked.tag] = outcome


def replies(numbers: Any) -> dict[int, Outcome]:
    return {number: Reply(f"re: question {number}", "stop", 7, 3) for number in numbers}


def posts(server: BatchServer, path: str) -> int:
    return sum((one.method, one.path) == ("POST", f"/v1/{path}") for one in server.seen)


def test_a_batch_runs_on_the_real_model_and_a_request_that_does_not_fit_fails_alone(
    server: BatchServer, small_model: TransformersProvider, tmp_path: Path
) -> None:
    server.execute = execute_on(small_model)
    asked = [Request((Message("user", f"Describe a {name}."),), Parameters(max_tokens=8)) for name in ("cat", "dog")]
    too_long = Request((Message("user", "cat " * 9000),), Parameters(max_tokens=8))
    got = dict(provider_at(server, tmp_path).complete([*asked, too_long]))
    for one in asked:
        reply = got[one]
        assert isinstance(reply, Reply)
        assert reply.prompt_tokens > 10
        assert 1 <= reply.completion_tokens <= 8
    assert isinstance(got[too_long], Failure)
    assert "tokens" in got[too_long].reason
    assert posts(server, "batches") == 1


def test_replies_are_matched_by_their_id_whatever_their_order(server: BatchServer, tmp_path: Path) -> None:
    assert ask(provider_at(server, tmp_path), 20) == replies(range(20))
    assert not list(tmp_path.iterdir())


def test_the_file_says_what_a_chat_completion_would_be_asked(server: BatchServer, tmp_path: Path) -> None:
    provider = provider_at(server, tmp_path)
    ask(provider, 1)
    (line,) = [json.loads(line) for line in server.files["file-0"].splitlines()]
    assert line == {
        "custom_id": custom_id(provider.key(), request(0)),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "messages": [{"role": "user", "content": "question 0"}],
            "max_tokens": 20,
            "temperature": 0.8,
            "top_p": 0.95,
            "seed": request(0).draw_seed,
        },
    }


def test_equal_requests_share_a_line_and_a_reply(server: BatchServer, tmp_path: Path) -> None:
    got = list(provider_at(server, tmp_path).complete([request(1), request(1), request(2)]))
    assert Counter(asked.tag for asked, _ in got) == {1: 2, 2: 1}
    assert server.paid.total() == 2


@pytest.mark.parametrize("limit", [{"batch_size": 3}, {"batch_bytes": 3 * 240}])
def test_batches_are_cut_to_the_limits_and_not_too_many_are_under_way(
    server: BatchServer, tmp_path: Path, limit: dict[str, int]
) -> None:
    taken = 0

    def counted() -> Iterator[Request]:
        nonlocal taken
        for taken in range(10):
            yield request(taken)

    outcomes = provider_at(server, tmp_path, concurrency=2, **limit).complete(counted())
    got = dict([next(outcomes)])
    assert taken <= 2 * 3 + 1
    got |= dict(outcomes)
    assert len(got) == 10
    sizes = [len(server.files[one["input_file_id"]].splitlines()) for one in server.batches.values()]
    assert sizes == [3, 3, 3, 1]
    assert all(
        len(server.files[one["input_file_id"]]) <= limit.get("batch_bytes", 10**6) for one in server.batches.values()
    )


def test_what_failed_is_asked_again_in_a_new_batch_and_nothing_else(server: BatchServer, tmp_path: Path) -> None:
    def some_fail(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
        first = len(server.batches) == 1
        bad = [(500, None), (200, completion_body(None)), (200, {}), (429, {"error": {"message": "slow"}})]
        return [bad[place % 5] if first and place % 5 < 4 else echo([body])[0] for place, body in enumerate(bodies)]

    server.execute = some_fail
    got = ask(provider_at(server, tmp_path), 10)
    # What an answer of 200 states is paid, and the most where it states nothing.
    paid = {
        1: Tokens(7, 3),
        2: max_tokens_per_attempt(request(2)),
        6: Tokens(7, 3),
        7: max_tokens_per_attempt(request(7)),
    }
    assert got == {
        number: replace(reply, lost=paid.get(number, Tokens())) for number, reply in replies(range(10)).items()
    }
    assert [len(server.files[one["input_file_id"]].splitlines()) for one in server.batches.values()] == [10, 8]


def test_a_server_that_knows_no_schemas_is_asked_in_words_alone(server: BatchServer, tmp_path: Path) -> None:
    refused = (400, {"error": {"message": "response_format is not supported"}})
    server.execute = lambda bodies: [refused if "response_format" in body else echo([body])[0] for body in bodies]
    asked = [replace(request(number), answer="list") for number in range(3)]
    got = {one.tag: outcome for one, outcome in provider_at(server, tmp_path).complete([*asked, request(3)])}
    assert got == replies(range(4))
    assert len(server.batches) == 2


def test_what_fails_for_ever_fails_after_a_bounded_number_of_batches(server: BatchServer, tmp_path: Path) -> None:
    server.execute = lambda bodies: [
        (500, None) if body["messages"][-1]["content"] == "question 1" else echo([body])[0] for body in bodies
    ]
    got = ask(provider_at(server, tmp_path), 3)
    assert got.pop(1) == Failure("status 500 (3 attempts)")
    assert got == replies([0, 2])
    assert len(server.batches) == 3


def empty(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
    return [(200, completion_body(None)) for _ in bodies]


def test_batches_that_gave_no_reply_are_paid_all_the_same(server: BatchServer, tmp_path: Path) -> None:
    server.execute = empty
    failed = Failure("the reply is empty (3 attempts)", Tokens(3 * 7, 3 * 3))
    assert ask(provider_at(server, tmp_path), 3) == dict.fromkeys(range(3), failed)


def test_what_earlier_batches_took_is_known_when_a_later_one_is_found_again(
    server: BatchServer, tmp_path: Path
) -> None:
    server.execute = empty
    server.fault = lambda seen: error(401) if seen.path == "/v1/batches/batch_1" else None
    with pytest.raises(FatalBackendError, match="key"):
        ask(provider_at(server, tmp_path), 2)
    assert len(server.batches) == 2
    server.fault, server.execute = (lambda seen: None), echo
    paid = {number: replace(reply, lost=Tokens(7, 3)) for number, reply in replies(range(2)).items()}
    assert ask(provider_at(server, tmp_path), 2) == paid
    assert set(server.paid.values()) == {2}


@pytest.mark.parametrize("end", ["cancelled", "no upload", "refused"])
def test_what_was_paid_before_the_end_of_a_run_is_told(server: BatchServer, tmp_path: Path, end: str) -> None:
    server.execute = empty
    server.fate = lambda number: {"cancelled": "cancelled", "refused": "failed: no"}.get(
        end if number else "", "completed"
    )
    if end == "no upload":
        server.fault = lambda seen: error(401) if server.batches and seen.path == "/v1/files" else None
    got, error_ = ask_until_the_end(provider_at(server, tmp_path), 2)
    assert error_.remedy
    assert {type(outcome) for outcome in got.values()} == {Failure}
    assert (
        sum(outcome.lost.prompt for outcome in got.values())
        == 7 * server.paid.total()
        == (21 if end == "cancelled" else 14)
    )


def test_a_record_of_an_older_version_is_read(server: BatchServer, tmp_path: Path) -> None:
    with closing(provider_at(server, tmp_path).complete(request(number) for number in range(3))) as outcomes:  # type: ignore[type-var]
        next(outcomes)
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_text())
    assert record.pop("lost") == {}
    path.write_text(json.dumps(record))
    assert ask(provider_at(server, tmp_path), 3) == replies(range(3))
    assert len(server.batches) == 1


def test_a_cost_limit_holds_for_requests_that_are_put_into_further_batches(server: BatchServer, tmp_path: Path) -> None:
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "{name}"},))
    labels, plan = (
        from_names(f"kind {number}" for number in range(20)),
        GenerationPlan(per_class=3, parameters=Parameters(max_tokens=9)),
    )
    most = max_tokens_per_attempt(Request((Message("user", "kind 0"),), plan.parameters))

    def mostly_empty(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
        texts = [f"A {body['messages'][-1]['content']} has long legs and a tail." for body in bodies]
        return [
            (200, completion_body(text if text.startswith("A kind 3 ") else None, prompt=most.prompt, drawn=9))
            for text in texts
        ]

    server.execute = mostly_empty
    budget = Budget(Prices(1e6, 1e6), 100.5 * most.total)
    result = run_generation(labels, prompts, provider_at(server, tmp_path), plan, budget=budget)
    assert result.stop is StopReason.COST
    assert server.paid.total() == 100
    assert budget.spent == pytest.approx(100 * most.total)


def test_what_an_expired_batch_did_not_answer_is_asked_again(server: BatchServer, tmp_path: Path) -> None:
    server.fate = lambda number: "completed" if number else "expired"
    assert ask(provider_at(server, tmp_path), 7) == replies(range(7))
    assert set(server.paid.values()) == {1}


def test_a_cancelled_batch_ends_the_run_with_what_it_gave_and_the_next_run_asks_for_the_rest(
    server: BatchServer, tmp_path: Path
) -> None:
    server.fate = lambda number: "completed" if number else "cancelled"
    got, end = ask_until_the_end(provider_at(server, tmp_path), 6)
    assert "was cancelled" in end.message
    assert len(got) == 3
    rest = [request(number) for number in range(6) if number not in got]
    got |= {asked.tag: outcome for asked, outcome in provider_at(server, tmp_path).complete(rest)}
    assert got == replies(range(6))
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(
    ("code", "words"), [("invalid_json_line", "invalid_json_line"), ("billing_hard_limit_reached", "billing")]
)
def test_a_batch_that_is_refused_ends_the_run(server: BatchServer, tmp_path: Path, code: str, words: str) -> None:
    server.fate = lambda number: f"failed: {code}"
    with pytest.raises(FatalBackendError, match=words) as caught:
        ask(provider_at(server, tmp_path), 2)
    assert caught.value.remedy
    assert len(server.batches) == 1
    assert not list(tmp_path.iterdir())


def test_a_server_that_has_no_room_is_tried_again_with_the_same_file(server: BatchServer, tmp_path: Path) -> None:
    server.fate = lambda number: "completed" if number == 3 else "failed: token_limit_exceeded"
    assert ask(provider_at(server, tmp_path), 4) == replies(range(4))
    assert posts(server, "files") == 1
    assert len(server.batches) == 4


def test_a_run_that_is_closed_leaves_its_batch_and_the_next_finds_it(server: BatchServer, tmp_path: Path) -> None:
    with closing(provider_at(server, tmp_path).complete(request(number) for number in range(5))) as outcomes:  # type: ignore[type-var]
        first = next(outcomes)[0].tag
    (record,) = tmp_path.iterdir()
    assert KEY not in record.read_text()
    # The journal holds the one that was taken; others are asked for, and one more.
    rest = [request(number) for number in range(6) if number != first]
    got = {asked.tag: outcome for asked, outcome in provider_at(server, tmp_path).complete(rest)}
    assert got == replies(number for number in range(6) if number != first)
    assert set(server.paid.values()) == {1}
    assert len(server.batches) == 2


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_openai_batch import OpenAIBatchProvider, request
backend = OpenAIBatchProvider("m", Path(sys.argv[2]), base_url=sys.argv[1], poll_interval=0.05)
list(backend.complete(request(number) for number in range(4)))
"""


@pytest.mark.parametrize("moment", ["before the batch is created", "while it is created", "when it is under way"])
def test_a_run_that_is_killed_at_any_moment_pays_nothing_twice(
    server: BatchServer, tmp_path: Path, moment: str
) -> None:
    def held(seen: Seen) -> Answer | None:
        return Answer(delay=60) if posts(server, "batches") and moment == "before the batch is created" else None

    def slow(seen: Seen) -> bool:
        if moment == "while it is created" and seen.method == "POST" and seen.path == "/v1/batches":
            server.lock.release()
            time.sleep(5)
            server.lock.acquire()
        return False

    server.fault, server.lost, server.looks = held, slow, 10**9
    command = [sys.executable, "-c", SCRIPT, server.url, str(tmp_path), str(Path(__file__).parent), str(ROOT / "tests")]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wanted = 2 if moment == "when it is under way" else 0
    while process.poll() is None and not (posts(server, "batches") and len(server.seen) >= 2 + wanted):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(tmp_path.glob("*.json"))) == 1
    server.fault, server.lost, server.looks = (lambda seen: None), (lambda seen: False), 1
    assert ask(provider_at(server, tmp_path), 4) == replies(range(4))
    assert set(server.paid.values()) == {1}
    assert len(server.batches) == 1
    assert not list(tmp_path.glob("*.json"))


def test_an_answer_that_gets_lost_on_the_way_creates_no_second_batch(server: BatchServer, tmp_path: Path) -> None:
    gone: list[str] = []

    def lose_first(seen: Seen) -> bool:
        what = f"{seen.method} {seen.path.partition('?')[0]}"
        gone.append(what)
        return gone.count(what) == 1

    server.lost = lose_first
    assert ask(provider_at(server, tmp_path), 4) == replies(range(4))
    assert len(server.batches) == 1
    assert posts(server, "files") == 2
    assert len(set(gone)) == 5  # two posts, the list, the batch and its output file: each was lost once


def test_a_batch_is_found_on_a_later_page_of_the_list(server: BatchServer, tmp_path: Path) -> None:
    provider = provider_at(server, tmp_path)
    outcomes = provider.complete(request(number) for number in range(2))
    server.looks = 10**9
    server.fault = lambda seen: error(401) if seen.path == "/v1/batches/batch_0" else None
    with pytest.raises(FatalBackendError):
        next(outcomes)
    (path,) = tmp_path.iterdir()
    (record,) = BatchRecords(tmp_path).find(server.url, "m")
    BatchRecords(tmp_path).save(record.with_batch(""))
    for number in range(5):
        server.batches[f"other_{number}"] = {"id": f"other_{number}", "input_file_id": "file-x", "status": "completed"}
    server.fault, server.looks = (lambda seen: None), 1
    assert ask(provider, 2) == replies(range(2))
    assert len(server.batches) == 6
    assert not path.exists()


@pytest.mark.parametrize(
    "damage",
    [
        Answer(200, b'{"custom_id": "a", "resp', {}),
        Answer(200, b"<html>Bad gateway</html>", {"content-type": "text/html"}),
        Answer(200, b"{}\n", {"content-length": "99"}),
        Answer(200, b"", {}),
        Answer(200, b"[" * 100_000, {}),
        error(500),
        error(429, retry_after="0.2"),
        Answer(drop=True),
    ],
    ids=["cut line", "HTML", "cut body", "empty", "nested", "500", "429", "dropped"],
)
def test_an_output_file_that_comes_damaged_is_fetched_again(
    server: BatchServer, tmp_path: Path, damage: Answer
) -> None:
    asked: list[float] = []

    def once(seen: Seen) -> Answer | None:
        if not seen.path.endswith("/content"):
            return None
        asked.append(seen.time)
        return damage if len(asked) == 1 else None

    server.fault = once
    assert ask(provider_at(server, tmp_path), 3) == replies(range(3))
    assert len(server.batches) == 1
    assert asked[1] - asked[0] >= float(damage.headers.get("retry-after", 0))


def test_an_output_file_that_stays_damaged_is_an_error_and_the_next_run_finds_it_whole(
    server: BatchServer, tmp_path: Path
) -> None:
    server.fault = lambda seen: Answer(200, b"nonsense") if seen.path.endswith("/content") else None
    with pytest.raises(BackendError, match="does not serve the batch"):
        ask(provider_at(server, tmp_path), 3)
    server.fault = lambda seen: None
    assert ask(provider_at(server, tmp_path), 3) == replies(range(3))
    assert set(server.paid.values()) == {1}


def test_a_batch_that_the_server_has_forgotten_is_said_with_the_record_to_delete(
    server: BatchServer, tmp_path: Path
) -> None:
    with closing(provider_at(server, tmp_path).complete(request(number) for number in range(5))) as outcomes:  # type: ignore[type-var]
        next(outcomes)
    server.batches.clear()
    with pytest.raises(FatalBackendError, match="no longer has the batch") as caught:
        ask(provider_at(server, tmp_path), 5)
    (path,) = tmp_path.iterdir()
    assert str(path) in caught.value.remedy


def test_a_record_of_a_batch_that_was_never_created_is_dropped(server: BatchServer, tmp_path: Path) -> None:
    provider = provider_at(server, tmp_path)
    ids = sorted(custom_id(provider.key(), request(number)) for number in range(3))
    records = BatchRecords(tmp_path)
    records.new(server.url, "m", "file-of-another-time", dict.fromkeys(ids, Tokens()))
    records.save(BatchRecord(server.url, "m", "file-y", "batch-y", time.time() - 90 * 86400, ("of long ago",)))
    assert ask(provider, 3) == replies(range(3))
    assert len(server.batches) == 1
    assert not list(tmp_path.iterdir())


def test_what_another_run_waits_for_stays_on_record(server: BatchServer, tmp_path: Path) -> None:
    with closing(provider_at(server, tmp_path).complete(request(number) for number in range(5))) as outcomes:  # type: ignore[type-var]
        next(outcomes)
    assert ask(provider_at(server, tmp_path), 2) == replies(range(2))
    assert ask(provider_at(server, tmp_path), 5) == replies(range(5))
    assert len(server.batches) == 1
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": "abs-batch", "format_version": 2}', b"\xff"])
def test_a_record_that_cannot_be_read_is_an_error_and_not_paid_over(
    server: BatchServer, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StorageError, match="cannot be read"):
        ask(provider_at(server, tmp_path), 1)
    assert not server.seen


def test_the_key_goes_to_its_host_alone_and_stands_nowhere(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-host-0123456789")
    monkeypatch.setenv("MY_KEY", KEY)
    server.execute = lambda bodies: (
        [(200, completion_body(f"the key {KEY}"))]
        + [(400, {"error": {"message": f"{KEY} is bad"}}) for _ in bodies[1:]]
    )
    ask(provider_at(server, tmp_path), 1)
    assert not [one for one in server.seen if "authorization" in one.headers]
    server.seen.clear()
    outcomes = provider_at(server, tmp_path, key_variable="MY_KEY").complete(
        request(number) for number in range(10, 13)
    )
    shown = [repr(next(outcomes)), *(path.read_text() for path in tmp_path.iterdir()), repr(list(outcomes))]
    assert {one.headers["authorization"] for one in server.seen} == {f"Bearer {KEY}"}
    assert len(shown) == 3
    sent = [server.files[batch["input_file_id"]].decode() for batch in server.batches.values()]
    for text in [*shown, caplog.text, *sent]:
        assert KEY not in text
        assert "sk-of-another-host" not in text


def test_a_redirect_a_wrong_key_a_spent_quota_and_a_missing_api_end_the_run(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    faults = {
        "does not accept the key": error(401, message=f"bad {KEY}"),
        "quota": error(429, "insufficient_quota"),
        "redirects": Answer(307, b"", {"location": "http://127.0.0.1:9/v1/files"}),
        "has no Batch API": error(404),
        "status 400": error(400, message="no batches for you"),
    }
    for words, answer in faults.items():
        server.fault = lambda seen, answer=answer: answer  # type: ignore[misc]
        server.seen.clear()
        with pytest.raises(FatalBackendError, match=words) as caught:
            ask(provider_at(server, tmp_path, key_variable="MY_KEY"), 2)
        assert KEY not in str(caught.value)
        assert caught.value.remedy
        assert len(server.seen) == 1
    assert not server.batches


def test_a_host_that_is_not_there_ends_the_run_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    started = time.monotonic()
    with pytest.raises(FatalBackendError, match="cannot be reached"):
        ask(OpenAIBatchProvider("m", tmp_path, base_url=url), 2)
    assert time.monotonic() - started < 5
    assert not list(tmp_path.iterdir())


def test_a_quota_that_ends_within_a_batch_ends_the_run_after_its_replies(server: BatchServer, tmp_path: Path) -> None:
    spent = (429, {"error": {"code": "insufficient_quota", "message": "none left"}})
    server.execute = lambda bodies: [echo([body])[0] if place < 2 else spent for place, body in enumerate(bodies)]
    got, end = ask_until_the_end(provider_at(server, tmp_path), 5)
    assert "quota" in end.message
    assert got == replies(got)
    assert len(got) == 2
    assert not list(tmp_path.iterdir())


def test_a_generation_goes_through_batches_and_its_journal_serves_the_openai_backend(
    server: BatchServer, tmp_path: Path
) -> None:
    server.execute = lambda bodies: [
        (200, completion_body(f"A {body['messages'][-1]['content']} has long legs and {place} spots on it."))
        for place, body in enumerate(bodies)
    ]
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "{name}"},))
    labels, plan = from_names(["cat", "dog", "cow"]), GenerationPlan(per_class=3)
    with Journal(tmp_path / "journal.jsonl") as journal:
        made = run_generation(labels, prompts, provider_at(server, tmp_path / "keep"), plan, journal=journal)
        assert made.complete
        asked = len(server.seen)
        other = OpenAIChatProvider("m", base_url=server.url)
        again = run_generation(labels, prompts, other, plan, journal=journal)
    assert [one.text for one in again.descriptions] == [one.text for one in made.descriptions]
    assert len(server.seen) == asked
    assert (made.generator.backend, again.generator.backend) == ("openai-batch", "openai")


def test_a_file_can_be_written_and_read_without_a_server(tmp_path: Path) -> None:
    server = OpenAIServer("http://127.0.0.1:1/v1", None)
    path, key = tmp_path / "in.jsonl", {"backend": "x"}
    asked = [request(number) for number in range(4)]
    written = write_batch_file(path, iter(asked), server=server, model="m", key=key, max_requests=3)
    assert written.left is asked[3]
    assert list(written.requests.values()) == [[one] for one in asked[:3]]
    assert [json.loads(line)["custom_id"] for line in path.read_text().splitlines()] == list(written.requests)
    lines = [
        json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": completion_body("yes")}}).encode(),
        b"",
        b'{"custom_id": "b", "response": null, "error": {"code": "batch_expired", "message": "late"}}\n',
        b'{"custom_id": "c"}',
        b'{"custom_id": "d", "response": {"status_code": 200, "body": [[]]}}',
    ]
    answers = dict(read_batch_results(lines, "h"))
    assert answers.pop("a") == Reply("yes", "stop", 7, 3)
    assert {name: (one.action, one.reason) for name, one in answers.items() if isinstance(one, ResponseProblem)} == {
        "b": ("again", "the batch gave no reply (batch_expired)"),
        "c": ("again", "the batch gave no reply"),
        "d": ("again", "the reply is not a chat completion"),
    }
    for line in (b"null", b"[]", b"x", b'{"custom_id": 3}', b"\xff"):
        with pytest.raises(ValueError):
            list(read_batch_results([line], "h"))


def test_options_are_checked(tmp_path: Path) -> None:
    for options in ({"batch_size": 50_001}, {"batch_size": 0}, {"poll_interval": 0.0}, {"concurrency": 0}):
        with pytest.raises(UsageError):
            build_provider("openai-batch", ProviderOptions(model="m", keep=tmp_path, **options))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="folder"):
        build_provider("openai-batch", ProviderOptions(model="m"))
    with pytest.raises(UsageError, match="needs a model"):
        build_provider("openai-batch", ProviderOptions(keep=tmp_path))
    with pytest.raises(UsageError, match="requests_per_minute"):
        build_provider("openai-batch", ProviderOptions(model="m", keep=tmp_path, requests_per_minute=3))
    assert build_provider("openai-batch", ProviderOptions(model="m", keep=tmp_path)).name == "openai-batch"
