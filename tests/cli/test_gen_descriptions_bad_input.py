"""`abs gen-descriptions`: inputs, servers and journals that are wrong, and where the key goes."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gen_descriptions_command import KEY, NAMES, PROMPTS, ChatReply, ChatScript, Generate, rows, texts
from support import ROOT

pytest.importorskip("openai")


def test_a_prompt_file_with_an_unknown_placeholder(generate: Generate, server: ChatScript, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(PROMPTS.replace("{name}", "{name} {colour}"))
    line = generate.refuses(NAMES, "--prompts", path)
    assert "mine.yaml" in line
    assert "'{colour}'" in line
    assert not server.asked


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--license", ""), "licence"), (("--license", "x" * 300), "licence"), (("--model", "m" * 2000), "model")],
)
def test_what_a_bundle_cannot_hold_is_refused_before_anything_is_paid(
    generate: Generate, server: ChatScript, options: tuple[str, ...], words: str
) -> None:
    assert words in generate.refuses(NAMES, *options)
    assert not server.asked
    assert not list(generate.run.home.glob(".*"))


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_temperature_that_is_not_a_finite_number(generate: Generate, server: ChatScript, number: str) -> None:
    assert f"the temperature must be a finite number, got '{number}'" in generate.refuses(
        NAMES, "--temperature", number
    )
    assert not server.asked


@pytest.mark.parametrize("blank", ["", " "])
def test_an_empty_source_is_not_the_current_folder(
    generate: Generate, server: ChatScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    (tmp_path / "here" / "lamp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    arguments = generate.arguments(NAMES)
    arguments[1] = blank
    assert "the label set must be named" in generate.run.refuses(*arguments)
    assert not server.asked


def test_a_model_that_answers_in_chinese_only(generate: Generate, server: ChatScript, tmp_path: Path) -> None:
    server.behave = lambda name, body: f"这只动物{body['seed']}有柔软的耳朵和一条长长的尾巴。"
    line = generate.refuses(NAMES, "--per-class", "2", "--tries", "3", "--report", tmp_path / "r.csv")
    assert "all of the first 16 replies were rejected for the same reason: another language" in line
    assert "none of 16 replies is a description; rejected: another language 16" in line
    assert "16 requests were sent: 320 tokens in, 160 out; 16 replies are in the journal" in line
    assert len(server.asked) == 16
    assert sum(int(row["another language"]) for row in rows(tmp_path / "r.csv")) == 16
    assert not list(generate.run.home.glob("bundles/**/*.jsonl"))


def test_a_class_without_usable_replies_is_bounded_and_the_others_finish(
    generate: Generate, server: ChatScript
) -> None:
    draw = random.Random(1)

    def behave(name: str, body: dict[str, Any]) -> ChatReply:
        if name == "dog":
            return "".join(draw.choices("qwxz jk#@", k=120)) + "x"
        return f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    ran = generate(NAMES, "--per-class", "3", "--tries", "5")
    assert ran.code == 3
    assert re.search(r"short: dog has 0 of 3 \(of 15 replies: ", ran.out)
    assert len(server.asked) == 15 + 9
    assert {name for name, _ in texts(generate.bundle())} == {"cat", "cow", "owl"}


def test_a_wrong_key(generate: Generate, server: ChatScript, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    server.behave = lambda name, body: (401, f"wrong key {KEY}")
    line = generate.refuses(NAMES, "--key-variable", "MY_KEY")
    assert "does not accept the key" in line
    assert KEY not in line
    assert len(server.asked) <= 16


def test_a_key_in_place_of_its_variable_is_not_shown(generate: Generate, server: ChatScript) -> None:
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


def test_a_quota_that_ends_halfway_leaves_the_journal_and_says_so(generate: Generate, server: ChatScript) -> None:
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


def test_a_journal_of_another_configuration_is_not_used_and_not_harmed(generate: Generate, server: ChatScript) -> None:
    generate(NAMES, "--per-class", "2")
    first, path = texts(generate.bundle()), generate.run.home / "journals" / "zoo.jsonl"
    lines = path.read_bytes()
    for options in (("--seed", "1"), ("--model", "n"), ("--max-tokens", "61")):
        before = len(server.asked)
        summary = json.loads(generate(NAMES, "--per-class", "2", *options, "--json").out)
        assert (summary["reused"], len(server.asked) - before) == (0, 8)
    assert path.read_bytes().startswith(lines)
    again = json.loads(generate(NAMES, "--per-class", "2", "--json").out)
    assert again["reused"] == 8
    assert texts(generate.bundle()) == first


def test_damaged_lines_of_the_journal_are_counted(generate: Generate, server: ChatScript) -> None:
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
def test_a_file_that_is_not_a_journal(generate: Generate, server: ChatScript, dry: tuple[str, ...]) -> None:
    path = generate.run.home / "journals" / "zoo.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("these are my notes\n")
    assert "is not a journal" in generate.refuses(NAMES, *dry)
    assert path.read_text() == "these are my notes\n"
    path.unlink()
    path.mkdir()
    assert "zoo.jsonl" in generate.refuses(NAMES, *dry)
    assert not server.asked


@pytest.mark.slow
def test_the_key_is_in_no_file_and_in_no_stream(
    generate: Generate,
    server: ChatScript,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("ABS_DEBUG", "0")
    caplog.set_level("DEBUG")

    def behave(name: str, body: dict[str, Any]) -> ChatReply:
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


@pytest.mark.slow
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
