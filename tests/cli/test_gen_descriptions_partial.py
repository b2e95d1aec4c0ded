"""`abs gen-descriptions`: what is partial, what waits, what is reused, and what an error says was spent."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from gen_descriptions_command import NAMES, PRICES, ChatReply, ChatScript, Generate, good, texts
from servers import serving

pytest.importorskip("openai")


def test_a_class_with_one_of_three_sentences_is_partial_everywhere(generate: Generate, server: ChatScript) -> None:
    first = set[str]()

    def behave(name: str, body: dict[str, Any]) -> ChatReply:
        if name == "dog" and "dog" in first:
            return "No."
        first.add(name)
        return good(name, body)

    server.behave = behave
    ran = generate(NAMES, "--per-class", "3", "--tries", "2")
    assert ran.code == 3
    assert "PARTIAL: 1 class has fewer than 3 descriptions; more --tries" in ran.out
    assert "short: dog has 1 of 3 (of 6 replies: " in ran.out
    assert not generate.bundle().header.complete
    again = generate(NAMES, "--per-class", "3", "--tries", "2", "--json")
    assert (again.code, json.loads(again.out)["complete"], json.loads(again.out)["short"]) == (3, False, ["dog"])
    shown = generate.run("bundle", "show", "zoo")
    assert "partial" in shown.out.lower()


def test_a_resumed_run_says_what_waits_for_what(generate: Generate, server: ChatScript) -> None:
    assert generate(NAMES, "--per-class", "8", *PRICES, "--max-cost", "1.2", "--max-tokens", "30").code == 3
    paid = len(server.asked)
    assert 12 <= paid < 32
    ahead = generate(NAMES, "--per-class", "8", "--max-tokens", "30", "--dry-run")
    assert re.search(rf"from the journal: {paid} replies, \d+ of 32 descriptions \(\d+ of the replies wait", ahead.out)
    assert f"to request: {32 - paid} requests" in ahead.out
    ran = generate(NAMES, "--per-class", "8", "--max-tokens", "30")
    assert ran.code == 0
    said = re.search(
        r"(\d+) replies from the journal: (\d+) of 32 sentences; (\d+) replies wait for the other", ran.err
    )
    assert said is not None, ran.err
    assert int(said[1]) == paid == int(said[2]) + int(said[3])
    assert len(server.asked) == 32


def test_another_port_and_another_name_pay_nothing_again(generate: Generate, server: ChatScript) -> None:
    first = generate(NAMES, "--per-class", "2")
    with serving(ChatScript()) as moved:
        elsewhere = Generate(generate.run, moved, generate.folder)
        ran = elsewhere(NAMES, "--per-class", "2")
        assert ran.code == 0
        assert "unchanged: the store has this version already" in ran.out
        assert ran.out.splitlines()[0] == first.out.splitlines()[0]
        assert f"note: 8 replies reused from another address ({server.url}, ...)" in ran.out
        named = elsewhere(NAMES, "--per-class", "2", name="birds")
        assert "note: 8 replies reused from the journal of another bundle (zoo, ...)" in named.out
        assert texts(generate.bundle("birds@1.0.0")) == texts(generate.bundle())
        assert moved.asked == []
        assert elsewhere(NAMES, "--per-class", "2", "--same-server", name="fish").code == 0
        assert len(moved.asked) == 8


def test_an_error_says_what_was_spent_and_kept(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: (402, "pay") if len(server.asked) > 5 else good(name, body)
    line = generate.refuses(NAMES, "--per-class", "4", "--concurrency", "1", *PRICES)
    assert "the quota at" in line
    assert "6 requests were sent: 100 tokens in, 50 out, cost 0.2000; 5 replies are in the journal" in line
    server.behave = lambda name, body: "No."
    line = generate.refuses(["elk"], "--per-class", "4", *PRICES)
    assert "16 requests were sent: 320 tokens in, 160 out, cost 0.6400; 16 replies are in the journal" in line


def test_reasoning_is_said_once_with_the_remedy(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: f"<think>\nA {name}? Let me think.\n</think>\n\n{good(name, body)}"
    ran = generate(NAMES, "--per-class", "2")
    assert ran.code == 0
    assert ran.out.count("note:") == 1
    assert (
        "note: 8 replies with reasoning, which is paid for and not kept: turn it off, or choose a model without it (cat"
        in ran.out
    )
    remarks = json.loads(generate(NAMES, "--per-class", "2", "--json").out)["remarks"]
    assert [(remark["count"], remark["examples"]) for remark in remarks] == [(8, NAMES)]
