"""Journals that were changed: a line that is not what was written is found out, and costs that line only."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from abs_core.errors import StorageError
from abs_descriptions.generation.journal import Journal, JournalEntry
from abs_descriptions.generation.providers.base import Adaptation, Failure, Reply, Tokens

ONE, TWO, THREE = ("sha256:" + 64 * digit for digit in "123")
REPLIES = {
    ONE: Reply("A cat has soft ears.", "stop", 12, 7, Tokens(3, 4, 1), Adaptation(("seed",), (), 1024)),
    TWO: Reply("A dog has a \"long\" tail, 長い.", "length", 12, 7),
    THREE: Reply("A cow has horns.", "stop", 12, 7),
}  # fmt: skip


def fill(path: Path) -> bytes:
    with Journal(path) as journal:
        for request, reply in REPLIES.items():
            journal.add(request, reply, {"class": "c", "sample": 0, "model": "m", "server": "http://s/v1"})
    return path.read_bytes()


def found(path: Path, *, read_only: bool = False) -> dict[str, Reply | None]:
    with Journal(path, read_only=read_only) as journal:
        return {request: journal.find(request) for request in REPLIES}


def test_no_changed_byte_changes_a_reply(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    whole = fill(path)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 + position * 37 % 255
        path.write_bytes(changed)
        with Journal(path) as journal:
            kept = {request: journal.find(request) for request in REPLIES}
            assert journal.damaged or journal.was_cut_off
        assert all(reply in (None, REPLIES[request]) for request, reply in kept.items())
        # a changed line end makes one line of two
        assert sum(reply is None for reply in kept.values()) <= 2


def test_lines_that_were_swapped_edited_or_made_by_hand_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    header, *lines = fill(path).splitlines(keepends=True)
    path.write_bytes(b"".join([header, *reversed(lines)]))
    assert found(path) == REPLIES  # each line vouches for itself alone
    edited = lines[0].replace(b"soft ears", b"wet ears")
    without = json.dumps({k: v for k, v in json.loads(lines[1]).items() if k != "check"}).encode() + b"\n"
    renamed = lines[2].replace(b'"check"', b'"chock"')
    path.write_bytes(b"".join([header, edited, without, renamed]))
    with Journal(path) as journal:
        assert journal.damaged == [2, 3, 4]
        assert len(journal) == 0


def test_a_line_of_version_2_that_lost_its_check_value_is_no_line_of_version_1(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    lines = fill(path).splitlines(keepends=True)
    lines[0] = lines[0].replace(b"2", b"1")
    lines[1] = lines[1].replace(b'"check"', b'"chock"')
    path.write_bytes(b"".join(lines))
    with Journal(path) as journal:
        assert journal.damaged == [2]
        assert len(journal) == 2


def test_replies_after_a_damaged_first_line_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    whole = fill(path)
    for first in (
        b'{"format":"abs-journaX","format_version":2}\n',
        b"\n",
        b"\xff" * 43 + b"\n",
        b'{"format":"abs-jour\n',
    ):
        path.write_bytes(first + b"\n" + whole.partition(b"\n")[2])
        with Journal(path) as journal:
            assert journal.damaged == [1, 2]
            assert {request: journal.find(request) for request in REPLIES} == REPLIES
            journal.add("sha256:new", REPLIES[ONE], {})
        with Journal(path) as journal:
            assert journal.find("sha256:new") is not None


def test_what_a_killed_run_left_is_cut_off_and_said(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    whole = fill(path)
    path.write_bytes(whole[:-5])
    with Journal(path) as journal:
        assert journal.was_cut_off
        assert journal.find(THREE) is None
    with Journal(path) as journal:
        assert not journal.was_cut_off
        assert not journal.damaged


def test_a_copy_is_found_and_says_under_what_it_was_recorded_first(tmp_path: Path) -> None:
    fill(tmp_path / "j.jsonl")
    with Journal(tmp_path / "j.jsonl", read_only=True) as journal, Journal(tmp_path / "k.jsonl") as copy:
        entry = journal.entry(ONE)
        assert entry is not None
        copy.copy(ONE, journal, {})
        copy.copy("sha256:none", journal, {})
        copy.copy(TWO, journal, {"request": THREE, "was": TWO, "server": "http://t/v1"})
        assert (copy.entry(ONE), copy.entry(TWO), len(copy)) == (entry, None, 2)
    with Journal(tmp_path / "k.jsonl") as copy:
        assert copy.entry(ONE) == entry
        assert copy.entry(THREE) == JournalEntry(TWO, REPLIES[TWO], "http://t/v1")
        assert copy.adaptations("m", "http://s/v1") == copy.adaptations("m") == (Adaptation(("seed",), (), 1024),)
        assert copy.adaptations("m", "http://t/v1") == copy.adaptations("n") == ()


def test_what_a_failed_request_wrote_is_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.add(ONE, Failure("not the JSON that was requested", Tokens(5, 6), text="A cat. \ud800"), {"class": "c"})
    line = json.loads((tmp_path / "j.jsonl").read_text().splitlines()[1])
    assert (line["status"], line["text"]) == ("failed", "A cat. ?")


PIECES = st.binary(max_size=30) | st.sampled_from(
    [b"\n", b"{", b"}", b'"', b"[" * 500, b'"request":"x",', b'"status":"reply",', b'"lost":{},', b"1e999", b"null"]
)


@pytest.mark.fuzz
@settings(max_examples=200, deadline=20_000, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=12).map(b"".join), st.integers(0, 700), st.sampled_from([1, 2]))
def test_any_bytes_in_a_journal_are_damage_or_a_refusal(tmp_path: Path, junk: bytes, place: int, version: int) -> None:
    path = tmp_path / "j.jsonl"
    path.unlink(missing_ok=True)
    whole = fill(path).replace(b'"format_version":2', b'"format_version":%d' % version)
    path.write_bytes(whole[:place] + junk + whole[place:])
    for read_only in (True, False):
        with suppress(StorageError):
            kept = found(path, read_only=read_only)
            assert all(reply in (None, REPLIES[request]) for request, reply in kept.items())
