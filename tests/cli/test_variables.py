"""Misspelt variables are said, once a command; those of other programs are left alone."""

from __future__ import annotations

import os
import re

import pytest
from support import Abs

from abs_cli.main import cli
from abs_cli.settings import LOCAL_OPTIONS
from abs_cli.variables import foreign_variables, misspelt_variables


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ABS_") and name != "ABS_CONFIG"]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("ABS_EVAL_VIEW", "nothing reads the variable 'ABS_EVAL_VIEW' (did you mean 'ABS_EVAL_VIEWS'?)"),
        ("ABS_EVLA_VIEWS", "nothing reads the variable 'ABS_EVLA_VIEWS' (did you mean 'ABS_EVAL_VIEWS'?)"),
        ("ABS_eval_views", "nothing reads the variable 'ABS_eval_views' (did you mean 'ABS_EVAL_VIEWS'?)"),
        ("ABS_GEN_DESCRIPTION_SEED", "did you mean 'ABS_GEN_DESCRIPTIONS_SEED'?"),
        ("ABS_BUNDLE_PUSH_WITH_PARENT", "did you mean 'ABS_BUNDLE_PUSH_WITH_PARENTS'?"),
        ("ABS_LABEL_MERGE_PREFERS", "did you mean 'ABS_LABEL_MERGE_PREFER'?"),
        ("ABS_HOEM", "did you mean 'ABS_HOME'?"),
        ("ABS_THREAD", "did you mean 'ABS_THREADS'?"),
        ("ABS_CONFG", "did you mean 'ABS_CONFIG'?"),
        ("ABS_EVAL_COLOUR", "nothing reads the variable 'ABS_EVAL_COLOUR': `abs eval` has no such option"),
        ("ABS_VIEWS", "nothing reads the variable 'ABS_VIEWS': with its command it is one, as in ABS_EVAL_VIEWS"),
        ("ABS_EVAL_\x1b[2J", r"nothing reads the variable 'ABS_EVAL_\\x1b[2J': `abs eval` has no such option"),
        ("ABS_EVAL_" + "X" * 5000, "nothing reads the variable 'ABS_EVAL_XXX"),
    ],
)
def test_a_misspelt_variable_is_explained(name: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    (message,) = misspelt_variables(cli).values()
    assert problem in message
    assert len(message) < 200
    assert foreign_variables(cli) == []


def test_the_variable_that_is_named_for_an_option_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in LOCAL_OPTIONS:
        monkeypatch.setenv(f"ABS_{option.replace('-', '_').upper()}", "3")
    named = {word.rstrip("?)'").strip("'") for text in misspelt_variables(cli).values() for word in text.split()[-1:]}
    assert len(named) > 30
    for name in os.environ:
        if name.startswith("ABS_"):
            monkeypatch.delenv(name)
    for name in named:
        monkeypatch.setenv(name, "3")
    assert misspelt_variables(cli) == {}
    assert foreign_variables(cli) == []


def test_variables_that_are_read_and_those_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "HOME CACHE CACHE_SIZE DEBUG EVAL_VIEWS THREADS LABEL_THREADS TOKEN_example_org BUNDLE_PUSH_WITH_PARENTS"
    others = "URL ACCOUNT_NAME CONTAINER TIMEZONE USER PATH BUILD_DIR MYPLUGIN_DEPTH"
    for name in (*ours.split(), *others.split()):
        monkeypatch.setenv(f"ABS_{name}", "1")
    assert misspelt_variables(cli) == {}
    assert foreign_variables(cli) == sorted(f"ABS_{name}" for name in others.split())


def test_a_command_warns_once_and_goes_on(abs_command: Abs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABS_CAHCE", "/none")
    monkeypatch.setenv("ABS_PATH", "/none")
    for command in (("methods",), ("bundle", "ls"), ("--quiet", "bundle", "ls")):
        ran = abs_command(*command)
        assert ran.code == 0
        assert [line for line in ran.err.splitlines() if "ABS_" in line] == [
            "warning: nothing reads the variable 'ABS_CAHCE' (did you mean 'ABS_CACHE'?)"
        ]
    ran = abs_command("config", "check")
    assert ran.code == 2
    assert re.search(r"^nothing reads the variable 'ABS_CAHCE' .*\. Correct or unset it\.$", ran.out, re.MULTILINE)
    assert ran.err == "of other programs, or of plug-ins: ABS_PATH\n"
