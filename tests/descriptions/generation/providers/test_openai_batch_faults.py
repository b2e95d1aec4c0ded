"""The provider openai-batch when batches fail, runs are killed and answers are lost or damaged."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from batch_requests import KEY, ask, ask_until_the_end, echo, posts, provider_at, replies, request
from servers import Answer, BatchServer, Seen, completion_body, error
from support import ROOT

from abs_core.errors import FatalProviderError, ProviderError, StorageError, UsageError
from abs_core.labels import from_names
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.prompts import PromptSet
from abs_descriptions.generation.providers.base import (
    Reply,
    Tokens,
)
from abs_descriptions.generation.providers.error_responses import ResponseProblem
from abs_descriptions.generation.providers.openai_batch import BatchRecord, BatchRecords, OpenAIBatchProvider
from abs_descriptions.generation.providers.openai_batch_api import custom_id, read_batch_results, write_batch_file
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.openai_server import OpenAIServer
from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider
from abs_descriptions.generation.runner import GenerationPlan, run_generation

pytest.importorskip("openai")


pytestmark = pytest.mark.faults


def test_what_an_expired_batch_did_not_answer_is_asked_again(batch_api: BatchServer, tmp_path: Path) -> None:
    batch_api.fate = lambda number: "completed" if number else "expired"
    assert ask(provider_at(batch_api, tmp_path), 7) == replies(range(7))
    assert set(batch_api.paid.values()) == {1}


def test_a_cancelled_batch_ends_the_run_with_what_it_gave_and_the_next_run_asks_for_the_rest(
    batch_api: BatchServer, tmp_path: Path
) -> None:
    batch_api.fate = lambda number: "completed" if number else "cancelled"
    got, end = ask_until_the_end(provider_at(batch_api, tmp_path), 6)
    assert "was cancelled" in end.message
    assert len(got) == 3
    rest = [request(number) for number in range(6) if number not in got]
    got |= {asked.tag: outcome for asked, outcome in provider_at(batch_api, tmp_path).complete(rest)}
    assert got == replies(range(6))
    assert set(batch_api.paid.values()) == {1}


@pytest.mark.parametrize(
    ("code", "words"), [("invalid_json_line", "invalid_json_line"), ("billing_hard_limit_reached", "billing")]
)
def test_a_batch_that_is_refused_ends_the_run(batch_api: BatchServer, tmp_path: Path, code: str, words: str) -> None:
    batch_api.fate = lambda number: f"failed: {code}"
    with pytest.raises(FatalProviderError, match=words) as caught:
        ask(provider_at(batch_api, tmp_path), 2)
    assert caught.value.remedy
    assert len(batch_api.batches) == 1
    assert not list(tmp_path.iterdir())


def test_a_server_that_has_no_room_is_tried_again_with_the_same_file(batch_api: BatchServer, tmp_path: Path) -> None:
    batch_api.fate = lambda number: "completed" if number == 3 else "failed: token_limit_exceeded"
    assert ask(provider_at(batch_api, tmp_path), 4) == replies(range(4))
    assert posts(batch_api, "files") == 1
    assert len(batch_api.batches) == 4


def test_a_run_that_is_closed_leaves_its_batch_and_the_next_finds_it(batch_api: BatchServer, tmp_path: Path) -> None:
    with closing(provider_at(batch_api, tmp_path).complete(request(number) for number in range(5))) as outcomes:  # type: ignore[type-var]
        first = next(outcomes)[0].tag
    (record,) = tmp_path.iterdir()
    assert KEY not in record.read_text()
    # The journal holds the one that was taken; others are asked for, and one more.
    rest = [request(number) for number in range(6) if number != first]
    got = {asked.tag: outcome for asked, outcome in provider_at(batch_api, tmp_path).complete(rest)}
    assert got == replies(number for number in range(6) if number != first)
    assert set(batch_api.paid.values()) == {1}
    assert len(batch_api.batches) == 2


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from batch_requests import OpenAIBatchProvider, request
provider = OpenAIBatchProvider("m", Path(sys.argv[2]), base_url=sys.argv[1], poll_interval=0.05)
list(provider.complete(request(number) for number in range(4)))
"""


@pytest.mark.parametrize("moment", ["before the batch is created", "while it is created", "when it is under way"])
@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_pays_nothing_twice(
    batch_api: BatchServer, tmp_path: Path, moment: str
) -> None:
    def held(seen: Seen) -> Answer | None:
        return Answer(delay=60) if posts(batch_api, "batches") and moment == "before the batch is created" else None

    def slow(seen: Seen) -> bool:
        if moment == "while it is created" and seen.method == "POST" and seen.path == "/v1/batches":
            batch_api.lock.release()
            time.sleep(5)
            batch_api.lock.acquire()
        return False

    batch_api.fault, batch_api.lost, batch_api.looks = held, slow, 10**9
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        batch_api.url,
        str(tmp_path),
        str(Path(__file__).parent),
        str(ROOT / "tests"),
    ]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    wanted = 2 if moment == "when it is under way" else 0
    while process.poll() is None and not (posts(batch_api, "batches") and len(batch_api.seen) >= 2 + wanted):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(tmp_path.glob("*.json"))) == 1
    batch_api.fault, batch_api.lost, batch_api.looks = (lambda seen: None), (lambda seen: False), 1
    assert ask(provider_at(batch_api, tmp_path), 4) == replies(range(4))
    assert set(batch_api.paid.values()) == {1}
    assert len(batch_api.batches) == 1
    assert not list(tmp_path.glob("*.json"))


def test_an_answer_that_gets_lost_on_the_way_creates_no_second_batch(batch_api: BatchServer, tmp_path: Path) -> None:
    gone: list[str] = []

    def lose_first(seen: Seen) -> bool:
        what = f"{seen.method} {seen.path.partition('?')[0]}"
        gone.append(what)
        return gone.count(what) == 1

    batch_api.lost = lose_first
    assert ask(provider_at(batch_api, tmp_path), 4) == replies(range(4))
    assert len(batch_api.batches) == 1
    assert posts(batch_api, "files") == 2
    assert len(set(gone)) == 5  # two posts, the list, the batch and its output file: each was lost once


def test_a_batch_is_found_on_a_later_page_of_the_list(batch_api: BatchServer, tmp_path: Path) -> None:
    provider = provider_at(batch_api, tmp_path)
    outcomes = provider.complete(request(number) for number in range(2))
    batch_api.looks = 10**9
    batch_api.fault = lambda seen: error(401) if seen.path == "/v1/batches/batch_0" else None
    with pytest.raises(FatalProviderError):
        next(outcomes)
    (path,) = tmp_path.iterdir()
    (record,) = BatchRecords(tmp_path).find(batch_api.url, "m")
    BatchRecords(tmp_path).save(record.with_batch(""))
    for number in range(5):
        batch_api.batches[f"other_{number}"] = {
            "id": f"other_{number}",
            "input_file_id": "file-x",
            "status": "completed",
        }
    batch_api.fault, batch_api.looks = (lambda seen: None), 1
    assert ask(provider, 2) == replies(range(2))
    assert len(batch_api.batches) == 6
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
    batch_api: BatchServer, tmp_path: Path, damage: Answer
) -> None:
    asked: list[float] = []

    def once(seen: Seen) -> Answer | None:
        if not seen.path.endswith("/content"):
            return None
        asked.append(seen.time)
        return damage if len(asked) == 1 else None

    batch_api.fault = once
    assert ask(provider_at(batch_api, tmp_path), 3) == replies(range(3))
    assert len(batch_api.batches) == 1
    assert asked[1] - asked[0] >= float(damage.headers.get("retry-after", 0))


def test_an_output_file_that_stays_damaged_is_an_error_and_the_next_run_finds_it_whole(
    batch_api: BatchServer, tmp_path: Path
) -> None:
    batch_api.fault = lambda seen: Answer(200, b"nonsense") if seen.path.endswith("/content") else None
    with pytest.raises(ProviderError, match="does not serve the batch"):
        ask(provider_at(batch_api, tmp_path), 3)
    batch_api.fault = lambda seen: None
    assert ask(provider_at(batch_api, tmp_path), 3) == replies(range(3))
    assert set(batch_api.paid.values()) == {1}


def test_a_batch_that_the_server_has_forgotten_is_said_with_the_record_to_delete(
    batch_api: BatchServer, tmp_path: Path
) -> None:
    with closing(provider_at(batch_api, tmp_path).complete(request(number) for number in range(5))) as outcomes:  # type: ignore[type-var]
        next(outcomes)
    batch_api.batches.clear()
    with pytest.raises(FatalProviderError, match="no longer has the batch") as caught:
        ask(provider_at(batch_api, tmp_path), 5)
    (path,) = tmp_path.iterdir()
    assert str(path) in caught.value.remedy


def test_a_record_of_a_batch_that_was_never_created_is_dropped(batch_api: BatchServer, tmp_path: Path) -> None:
    provider = provider_at(batch_api, tmp_path)
    ids = sorted(custom_id(provider.key(), request(number)) for number in range(3))
    records = BatchRecords(tmp_path)
    records.new(batch_api.url, "m", "file-of-another-time", dict.fromkeys(ids, Tokens()))
    records.save(BatchRecord(batch_api.url, "m", "file-y", "batch-y", time.time() - 90 * 86400, ("of long ago",)))
    assert ask(provider, 3) == replies(range(3))
    assert len(batch_api.batches) == 1
    assert not list(tmp_path.iterdir())


def test_what_another_run_waits_for_stays_on_record(batch_api: BatchServer, tmp_path: Path) -> None:
    with closing(provider_at(batch_api, tmp_path).complete(request(number) for number in range(5))) as outcomes:  # type: ignore[type-var]
        next(outcomes)
    assert ask(provider_at(batch_api, tmp_path), 2) == replies(range(2))
    assert ask(provider_at(batch_api, tmp_path), 5) == replies(range(5))
    assert len(batch_api.batches) == 1
    assert set(batch_api.paid.values()) == {1}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"format": "abs-batch", "format_version": 2}', b"\xff", b"[" * 99_999]
)
def test_a_record_that_cannot_be_read_is_an_error_and_not_paid_over(
    batch_api: BatchServer, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StorageError, match="cannot be read"):
        ask(provider_at(batch_api, tmp_path), 1)
    assert not batch_api.seen


def test_the_key_goes_to_its_host_alone_and_stands_nowhere(
    batch_api: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-host-0123456789")
    monkeypatch.setenv("MY_KEY", KEY)
    batch_api.execute = lambda bodies: (
        [(200, completion_body(f"the key {KEY}"))]
        + [(400, {"error": {"message": f"{KEY} is bad"}}) for _ in bodies[1:]]
    )
    ask(provider_at(batch_api, tmp_path), 1)
    assert not [one for one in batch_api.seen if "authorization" in one.headers]
    batch_api.seen.clear()
    outcomes = provider_at(batch_api, tmp_path, key_variable="MY_KEY").complete(
        request(number) for number in range(10, 13)
    )
    shown = [repr(next(outcomes)), *(path.read_text() for path in tmp_path.iterdir()), repr(list(outcomes))]
    assert {one.headers["authorization"] for one in batch_api.seen} == {f"Bearer {KEY}"}
    assert len(shown) == 3
    sent = [batch_api.files[batch["input_file_id"]].decode() for batch in batch_api.batches.values()]
    for text in [*shown, caplog.text, *sent]:
        assert KEY not in text
        assert "sk-of-another-host" not in text


def test_a_redirect_a_wrong_key_an_exhausted_quota_and_a_missing_api_end_the_run(
    batch_api: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        batch_api.fault = lambda seen, answer=answer: answer  # type: ignore[misc]
        batch_api.seen.clear()
        with pytest.raises(FatalProviderError, match=words) as caught:
            ask(provider_at(batch_api, tmp_path, key_variable="MY_KEY"), 2)
        assert KEY not in str(caught.value)
        assert caught.value.remedy
        assert len(batch_api.seen) == 1
    assert not batch_api.batches


def test_a_host_that_is_not_there_ends_the_run_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    started = time.monotonic()
    with pytest.raises(FatalProviderError, match="cannot be reached"):
        ask(OpenAIBatchProvider("m", tmp_path, base_url=url), 2)
    assert time.monotonic() - started < 30
    assert not list(tmp_path.iterdir())


def test_a_quota_that_ends_within_a_batch_ends_the_run_after_its_replies(
    batch_api: BatchServer, tmp_path: Path
) -> None:
    spent = (429, {"error": {"code": "insufficient_quota", "message": "none left"}})
    batch_api.execute = lambda bodies: [echo([body])[0] if place < 2 else spent for place, body in enumerate(bodies)]
    got, end = ask_until_the_end(provider_at(batch_api, tmp_path), 5)
    assert "quota" in end.message
    assert got == replies(got)
    assert len(got) == 2
    assert not list(tmp_path.iterdir())


def test_a_generation_goes_through_batches_and_its_journal_serves_the_openai_backend(
    batch_api: BatchServer, tmp_path: Path
) -> None:
    batch_api.execute = lambda bodies: [
        (200, completion_body(f"A {body['messages'][-1]['content']} has long legs and {place} spots on it."))
        for place, body in enumerate(bodies)
    ]
    prompts = PromptSet(id="p", version=1, description="d", prompts=({"id": "a", "text": "{name}"},))
    labels, plan = from_names(["cat", "dog", "cow"]), GenerationPlan(per_class=3)
    with Journal(tmp_path / "journal.jsonl") as journal:
        made = run_generation(labels, prompts, provider_at(batch_api, tmp_path / "keep"), plan, journal=journal)
        assert made.complete
        asked = len(batch_api.seen)
        other = OpenAIChatProvider("m", base_url=batch_api.url)
        again = run_generation(labels, prompts, other, plan, journal=journal)
    assert [one.text for one in again.descriptions] == [one.text for one in made.descriptions]
    assert len(batch_api.seen) == asked
    assert (made.generator.backend, again.generator.backend) == ("openai-batch", "openai")


def test_a_file_can_be_written_and_read_without_a_server(tmp_path: Path) -> None:
    batch_api = OpenAIServer("http://127.0.0.1:1/v1", None)
    path, key = tmp_path / "in.jsonl", {"backend": "x"}
    asked = [request(number) for number in range(4)]
    written = write_batch_file(path, iter(asked), server=batch_api, model="m", key=key, max_requests=3)
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
