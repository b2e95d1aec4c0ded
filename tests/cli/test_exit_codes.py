"""One table of exit codes: the code of the commands, their help and the page keep to it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest
from support import ROOT

from abs_cli.exit_codes import FINDINGS, MEANINGS, PARTIAL_RESULTS, ExitCode
from abs_cli.main import cli
from abs_cli.settings import sub_command

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def command_of(words: str) -> click.Command:
    command: click.Command = cli
    for word in words.split():
        found = sub_command(command, word)
        assert found is not None
        command = found
    return command


def help_of(words: str) -> str:
    command = command_of(words)
    return " ".join(command.get_help(click.Context(command)).split())


def test_the_page_has_the_table_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert rows == [(str(int(code)), meaning) for code, meaning in MEANINGS.items()]
    assert list(MEANINGS) == list(ExitCode)
    section = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `abs ([a-z -]+)` \| (\d+) \| (.+) \|$", section, flags=re.MULTILINE)
    expected = [(command, "1", when) for command, when in FINDINGS.items()]
    expected += [(command, "3", when) for command, when in PARTIAL_RESULTS.items()]
    assert sorted(rows) == sorted(expected)


@pytest.mark.parametrize("command", sorted({*FINDINGS, *PARTIAL_RESULTS}))
def test_the_help_of_a_command_names_its_codes(command: str) -> None:
    text = help_of(command)
    said = " ".join(re.findall(r"[Ee]xit codes?.*", text))
    assert command not in FINDINGS or re.search(r"\b1\b", said), text
    assert command not in PARTIAL_RESULTS or re.search(r"\b3\b", said), text


def test_the_help_of_abs_names_them_all_but_that_of_a_defect() -> None:
    said = help_of("").partition("Exit codes: ")[2]
    assert all(f"{int(code)} " in said for code in ExitCode if code is not ExitCode.DEFECT)


@pytest.mark.parametrize("path", sorted((ROOT / "abs_cli").rglob("*.py")), ids=lambda path: path.name)
def test_no_command_ends_with_a_number_of_its_own(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("Exit", "SystemExit", "exit"):
            numbers = [argument for argument in node.args if isinstance(argument, ast.Constant)]
            is_reader_gone = path.name == "main.py" and [number.value for number in numbers] == [0]
            assert not numbers or is_reader_gone, ast.unparse(node)


@pytest.mark.parametrize("path", sorted((ROOT / "abs_cli" / "commands").glob("*.py")), ids=lambda path: path.name)
def test_a_code_is_declared_for_each_module_that_uses_it(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    for code, table in (("FINDING", FINDINGS), ("PARTIAL", PARTIAL_RESULTS)):
        if f"ExitCode.{code}" in source:
            modules = {getattr(command_of(words).callback, "__module__", "") for words in table}
            assert f"abs_cli.commands.{path.stem}" in modules, f"declare in abs_cli/exit_codes.py what ends with {code}"
