"""The journal: what is written is found again, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abs_core.errors import StorageError
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.providers.base import (
    Failure,
    Message,
    Parameters,
    Reply,
    Request,
    Tokens,
    request_digest,
)

REPLY = Reply("A cat has soft ears.", "stop", 12, 7)


def mark(number: int) -> str:
    return f"sha256:{number:064x}"


def fill(path: Path, count: int) -> bytes:
    with Journal(path) as journal:
        for number in range(count):
            journal.add(mark(number), Reply(f"reply {number}", "stop", 1, 2), {"class": "cat", "sample": number})
    return path.read_bytes()


def test_good_replies_are_found_again_and_failed_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "new" / "j.jsonl"
    with Journal(path) as journal:
        journal.add(mark(1), REPLY, {"class": "cat"})
        journal.add(mark(2), Failure("status 500"), {"class": "cat"})
        assert journal.find(mark(1)) == REPLY
        assert journal.find(mark(2)) is None
    with Journal(path) as journal:
        assert (len(journal), journal.failures, journal.damaged) == (1, 1, [])
        assert journal.find(mark(1)) == REPLY
        assert journal.find(mark(2)) is None
        journal.add(mark(2), Reply("A dog.", "length", 0, 0), {"class": "dog"})
        assert journal.find(mark(1)) == REPLY
        assert journal.find(mark(2)) == Reply("A dog.", "length", 0, 0)
    first, *lines = path.read_text().splitlines()
    assert json.loads(first) == {"format": "abs-journal", "format_version": 2}
    assert [json.loads(line)["status"] for line in lines] == ["reply", "failed", "reply"]


def test_what_attempts_without_a_reply_took_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    reply = Reply("A cat has soft ears.", "stop", 12, 7, Tokens(282, 20, 1))
    with Journal(path) as journal:
        assert journal.is_empty
        journal.add(mark(1), reply, {})
        journal.add(mark(2), Failure("the reply is empty", Tokens(7, 0)), {})
        journal.add(mark(2), Failure("the reply is empty", Tokens(7, 3, 2)), {})
        journal.add(mark(3), Failure("status 500"), {})
        known = [journal.lost(mark(number)) for number in range(4)]
    assert known == [Tokens(), Tokens(), Tokens(14, 3, 2), Tokens()]
    for read_only in (True, False):
        with Journal(path, read_only=read_only) as journal:
            assert journal.find(mark(1)) == reply
            assert [journal.lost(mark(number)) for number in range(4)] == known
            assert not journal.is_empty


def test_lines_of_older_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    old = [
        {"format": "abs-journal", "format_version": 1},
        {"request": mark(1), "class": "cat", "prompt": "a", "sample": 0, "status": "reply", "text": REPLY.text,
         "finish_reason": "stop", "prompt_tokens": 12, "completion_tokens": 7},
        {"request": mark(2), "class": "cat", "prompt": "a", "sample": 1, "status": "failed", "reason": "status 500"},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in old))
    with Journal(path) as journal:
        assert (journal.find(mark(1)), journal.lost(mark(2))) == (REPLY, Tokens())
        assert (len(journal), journal.failures, journal.damaged) == (1, 1, [])


def test_each_outcome_is_on_the_disk_when_it_is_added(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        for number in range(3):
            journal.add(mark(number), REPLY, {})
            assert path.read_bytes().count(b"\n") == number + 2
            assert path.read_bytes().endswith(b"\n")


def test_the_disk_has_each_outcome_a_second_later_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add(mark(1), REPLY, {})
        assert synced == []
        now[0] = 1.1
        journal.add(mark(2), REPLY, {})
        assert synced == [path.stat().st_size]
        journal.add(mark(3), REPLY, {})
        assert len(synced) == 1
    assert synced[1:] == [path.stat().st_size]
    with Journal(path, read_only=True):
        pass
    assert len(synced) == 2


def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    whole = fill(path, 3)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = max(0, whole[:length].count(b"\n") - 1)
        with Journal(path) as journal:
            assert (len(journal), journal.damaged) == (kept, [])
            journal.add(mark(9), REPLY, {})
        with Journal(path) as journal:
            assert len(journal) == kept + 1
            assert journal.find(mark(9)) == REPLY


def test_a_line_that_is_damaged_in_the_middle_costs_that_line_only(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    lines = fill(path, 4).splitlines(keepends=True)
    bad = [
        b"\xff\xfe\n",
        b"{}\n",
        b"[1]\n",
        b'{"request": 1, "status": "reply"}\n',
        b'{"request": "x", "status": "?"}\n',
    ]
    bad += [b'{"request": "x", "status": "reply", "text": null}\n', b"[" * 100_000 + b"\n", b"\n"]
    bad.append(lines[2].replace(b'"completion_tokens":', b'"completion_tokens":1e999,"was":'))
    assert b"1e999" in bad[-1]
    bad += [lines[2].replace(b'"request":', b'"lost":%s,"request":' % lost) for lost in (b"1", b"{}", b"null")]
    path.write_bytes(b"".join([*lines[:2], *bad, *lines[3:]]))
    with Journal(path) as journal:
        assert journal.damaged == list(range(3, 3 + len(bad)))
        assert [journal.find(mark(number)) is not None for number in range(4)] == [True, False, True, True]


@pytest.mark.parametrize("content", [b"cat\ndog\n", b"cat", b'{"format": "abs-descriptions"}\n', b"\0"])
def test_a_file_that_is_not_a_journal_is_left_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="is not a journal"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_journal_of_another_configuration_answers_nothing(tmp_path: Path) -> None:
    request = Request((Message("user", "x"),), Parameters(), 0)
    others = [
        request_digest({"backend": "a", "model": "n"}, request),
        request_digest({"backend": "b", "model": "m"}, request),
        request_digest({"backend": "a", "model": "m"}, Request((Message("user", "y"),), Parameters(), 0)),
        request_digest({"backend": "a", "model": "m"}, Request((Message("system", "x"),), Parameters(), 0)),
        request_digest({"backend": "a", "model": "m"}, Request((Message("user", "x"),), Parameters(61), 0)),
        request_digest({"backend": "a", "model": "m"}, Request((Message("user", "x"),), Parameters(seed=1), 0)),
        request_digest({"backend": "a", "model": "m"}, Request((Message("user", "x"),), Parameters(), 1)),
    ]
    mine = request_digest({"model": "m", "backend": "a"}, Request((Message("user", "x"),), Parameters(), 0, tag=5))
    with Journal(tmp_path / "j.jsonl") as journal:
        for other in others:
            journal.add(other, REPLY, {})
        assert len(journal) == len(others)
        assert journal.find(mine) is None


def test_a_journal_is_read_without_a_trace_also_while_another_run_writes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "j.jsonl"
    with Journal(path, read_only=True) as none:
        assert (len(none), none.find(mark(0))) == (0, None)
    assert not path.parent.exists()
    whole = fill(path, 3)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with Journal(path, read_only=True) as journal:
            assert (len(journal), journal.damaged) == (max(0, whole[:length].count(b"\n") - 1), [])
        assert path.read_bytes() == whole[:length]
    with Journal(path) as writer:
        writer.add(mark(7), REPLY, {})
        with Journal(path, read_only=True) as reader:
            assert reader.find(mark(7)) == REPLY
    path.write_bytes(b"my notes\n")
    with pytest.raises(StorageError, match="is not a journal"):
        Journal(path, read_only=True)


def test_two_runs_cannot_hold_one_journal(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "j.jsonl"
    with Journal(path), pytest.raises(StorageError, match="in use by another run"):
        Journal(path)
    Journal(path).close()


def test_odd_text_is_stored_as_it_will_be_found(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    odd = Reply("lone \ud800, e\u0301, \u2028, \0, 猫, \U0001f680", "stop")
    with Journal(path) as journal:
        stored = journal.add(mark(0), odd, {"class": "قطة"})
        assert journal.find(mark(0)) == stored
    with Journal(path) as journal:
        assert journal.find(mark(0)) == stored
    assert isinstance(stored, Reply)
    assert "é" in stored.text


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot write"):
        Journal(tmp_path / "file" / "j.jsonl")
    with pytest.raises(StorageError):
        Journal(tmp_path)


FILLER = """
import resource, signal, sys
from pathlib import Path
from abs_core.errors import StorageError
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.providers.base import Reply
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Journal(Path(sys.argv[1])) as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        for number in range(10**9):
            journal.add(f"sha256:{number:064x}", Reply("x" * 1000, "stop"), {})
    except StorageError as error:
        print(number, error)
"""


def test_a_disk_that_fills_up_is_one_error_and_costs_one_reply(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    path = tmp_path / "j.jsonl"
    done = subprocess.run([sys.executable, "-c", FILLER, str(path)], capture_output=True, text=True, check=True)
    count, _, message = done.stdout.partition(" ")
    assert "cannot write" in message
    assert str(path) in message
    with Journal(path) as journal:
        assert len(journal) == int(count)
        assert journal.damaged == []


WRITER = """
import sys
from pathlib import Path
from abs_descriptions.generation.journal import Journal
from abs_descriptions.generation.providers.base import Reply
with Journal(Path(sys.argv[1])) as journal:
    for number in range(10**9):
        journal.add(f"sha256:{number:064x}", Reply("x" * 2000, "stop"), {})
        print(number, flush=True)
"""


def test_what_was_added_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.2)
        os.kill(writer.pid, signal.SIGKILL)
        last = int(writer.stdout.read().split()[-1])
    with Journal(path) as journal:
        assert len(journal) >= last + 1
        assert journal.find(mark(last)) == Reply("x" * 2000, "stop")
        assert journal.damaged == []


def test_a_reply_costs_little_memory_and_time(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    started = time.process_time()
    fill(path, 20_000)
    with Journal(path) as journal:
        assert len(journal) == 20_000
        assert journal.find(mark(12_345)) == Reply("reply 12345", "stop", 1, 2)
    assert (time.process_time() - started) / 20_000 < 0.001
