"""`abs gen-descriptions`: prices, dry runs, cost limits and totals."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gen_descriptions_command import NAMES, PRICES, ChatReply, ChatScript, Generate, good, late, texts
from servers import Answer

pytest.importorskip("openai")


def test_a_dry_run_says_what_it_would_cost_and_touches_nothing(generate: Generate, server: ChatScript) -> None:
    options = ("--per-class", "5", "--tries", "3", "--max-tokens", "40", "--dry-run", *PRICES)
    ran = generate(NAMES, *options)
    assert ran.code == 0
    assert "to request: 20 requests" in ran.out
    estimate = json.loads(generate(NAMES, *options, "--json").out)
    # "Tell cat" and "Say cat" have 8 and 7 bytes: 2 tokens each, and 4 for the message.
    assert estimate["to_ask"] == {
        "requests": 20,
        "prompt_tokens": 120,
        "completion_tokens": 800,
        "cost": pytest.approx(0.12 + 1.6),
    }
    assert estimate["all_tries"]["requests"] == 60
    assert estimate["journal"]["replies"] == 0
    assert not server.asked
    assert not generate.run.home.exists()


def test_a_dry_run_takes_the_journal_into_account(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: "No." if name == "dog" else f"This {name} number {body['seed']} has a long tail."
    assert generate(NAMES, "--per-class", "4", "--tries", "2").code == 3
    before = sorted((path, path.stat().st_mtime_ns) for path in generate.run.home.rglob("*"))
    same = json.loads(generate(NAMES, "--per-class", "4", "--tries", "2", "--dry-run", "--json", *PRICES).out)
    assert (same["to_ask"]["requests"], same["all_tries"]["requests"]) == (0, 0)
    assert (same["accepted"], same["wanted"]) == (12, 16)
    assert same["journal"] == {
        "replies": 20,
        "prompt_tokens": 400,
        "completion_tokens": 200,
        "cost": pytest.approx(0.8),
    }
    more = json.loads(generate(NAMES, "--per-class", "4", "--tries", "4", "--dry-run", "--json").out)
    asked = len(server.asked)
    assert (more["to_ask"]["requests"], more["all_tries"]["requests"]) == (8, 8)
    generate(NAMES, "--per-class", "4", "--tries", "4")
    assert len(server.asked) - asked == 8
    now = {path for path, _ in before}
    assert now <= set(generate.run.home.rglob("*"))


def test_what_was_paid_and_what_the_journal_had_are_shown_separately(generate: Generate) -> None:
    first = generate(NAMES, "--per-class", "2", *PRICES)
    assert "paid: 160 tokens in, 80 out, cost 0.3200" in first.out
    again = json.loads(generate([*NAMES, "elk"], "--per-class", "2", "--json", *PRICES).out)
    assert again["tokens"]["paid"] == {"prompt_tokens": 40, "completion_tokens": 20, "cost": pytest.approx(0.08)}
    assert again["tokens"]["journal"] == {"prompt_tokens": 160, "completion_tokens": 80, "cost": pytest.approx(0.32)}
    assert again["reused"] == 8
    assert "cost" not in json.loads(generate(NAMES, "--per-class", "2", "--json").out)["tokens"]["paid"]


def test_without_prices_tokens_are_used_and_nothing_is_said_of_paying(generate: Generate) -> None:
    assert "used: 160 tokens in, 80 out\n" in generate(NAMES, "--per-class", "2").out
    more = generate([*NAMES, "elk"], "--per-class", "2", "--dry-run").out
    assert "; used before: 160 tokens in, 80 out\n" in more
    last = generate([*NAMES, "elk"], "--per-class", "2").out
    assert "used: 40 tokens in, 20 out; in the journal, used before: 160 tokens in, 80 out\n" in last
    assert "paid" not in more + last


@pytest.mark.parametrize(
    "content", ["m: {in: 1000, out: 2000}\nother: {in: 1, out: 1}\n", '{"m": {"in": 1e3, "out": 2000}}']
)
def test_prices_come_from_a_file(generate: Generate, tmp_path: Path, content: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(content)
    assert "cost 0.3200" in generate(NAMES, "--per-class", "2", "--prices", path).out


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (None, ("--max-cost", "1"), "needs prices"),
        (None, ("--price-in", "1"), "must be given together"),
        (None, ("--price-in", "-1", "--price-out", "1"), "got '-1'"),
        (None, ("--price-in", "nan", "--price-out", "1"), "got 'nan'"),
        (None, (*PRICES, "--max-cost", "0"), "cost limit"),
        (None, (*PRICES, "--max-cost", "inf"), "cost limit"),
        (None, (*PRICES, "--max-cost", "0.01"), "must cover one request"),
        ("m: {in: 1, out: 2}", PRICES, "exclude each other"),
        ("other: {in: 1, out: 2}", (), "valid: other"),
        ("m: {in: 1}", (), "m.out"),
        ("m: {in: 1, out: two}", (), "m.out"),
        ("m: {in: 1, out: .inf}", (), "m.out"),
        ("m: {in: 1, out: 2, per: 1000}", (), "m.per"),
        ("- 1", (), "the whole"),
        ("m: [", (), "line 1"),
    ],
)
def test_bad_prices_are_one_error(
    generate: Generate, server: ChatScript, tmp_path: Path, content: str | None, options: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "prices.yaml"
    if content is not None:
        path.write_text(content)
        options = ("--prices", str(path), *options)
    assert words in generate.refuses(NAMES, *options)
    assert not server.asked


@pytest.mark.slow
def test_a_cost_limit_holds_and_the_next_run_pays_for_the_rest(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: late(0.002, f"This {name} number {body['seed']} has a long tail.")
    server.tokens = (20, 30)  # 0.08 each; before it is known, a request may cost 0.28 + 0.06
    options = ("--per-class", "25", "--max-tokens", "30", "--concurrency", "8", *PRICES)
    ran = generate(NAMES, *options, "--max-cost", "4")
    assert ran.code == 3
    assert "PARTIAL: the cost limit is reached" in ran.out
    assert re.search(r"short: (dog|cow|owl) has \d+ of 25", ran.out)
    paid = len(server.asked)
    # The limit holds, and not much more than the most of one request is left of it.
    assert 4 - 0.08 - 0.4 < paid * 0.08 <= 4
    assert not generate.bundle().header.complete
    assert len(texts(generate.bundle())) == paid == len(generate.journal())
    rest = generate(NAMES, *options)
    assert rest.code == 0
    assert len(server.asked) == 100
    assert generate.bundle("zoo").header.complete
    assert len(texts(generate.bundle("zoo"))) == 100


def test_replies_without_token_counts_are_charged_the_most(generate: Generate, server: ChatScript) -> None:
    server.tokens = (0, 0)
    ran = generate(NAMES, "--per-class", "25", "--max-tokens", "30", *PRICES, "--max-cost", "4")
    assert ran.code == 3
    assert len(server.asked) <= 4 / (0.06 + 0.256)


def test_attempts_without_a_usable_reply_are_paid_and_shown(generate: Generate, server: ChatScript) -> None:
    first = set[int]()

    def behave(name: str, body: dict[str, Any]) -> ChatReply:
        if body["seed"] in first:
            return good(name, body)
        first.add(body["seed"])
        return Answer(200, b"<html>")

    server.behave = behave
    options = ("--per-class", "2", "--max-tokens", "30", *PRICES)
    ran = generate(NAMES, *options)
    # A good reply takes 20 and 10 tokens; before it at most 256 and 16 and a byte each, and 30.
    assert ran.code == 0
    assert "paid: at most 2396 tokens in, 320 out, cost 3.0360" in ran.out
    again = json.loads(generate(NAMES, *options, "--json").out)["tokens"]
    assert again["paid"] == {"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}
    assert again["journal"] == {
        "prompt_tokens": 2396,
        "completion_tokens": 320,
        "unstated": 8,
        "cost": pytest.approx(3.036),
    }


@pytest.mark.slow
def test_progress_shows_replies_failures_tokens_time_and_cost(
    generate: Generate, server: ChatScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    pty = pytest.importorskip("pty")
    monkeypatch.setenv("TERM", "xterm")
    server.behave = lambda name, body: (400, "no") if body["seed"] % 5 == 0 else late(0.05, good(name, body))
    ours, theirs = pty.openpty()
    arguments = generate.arguments(NAMES, "--per-class", "12", "--concurrency", "4", *PRICES)
    with generate.start(*arguments, stderr=theirs, stdout=subprocess.DEVNULL) as run:
        os.close(theirs)
        said = b""
        while True:
            try:
                said += os.read(ours, 65536)
            except OSError:
                break
        run.wait()
    os.close(ours)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert re.search(r"\d+/48", shown)
    assert "sentences/s" in shown
    assert re.search(r"\d:\d\d", shown)
    assert re.search(r"\d+ replies, [1-9]\d* failed, \d+ tokens, cost 0\.\d+", shown), shown[-2000:]
