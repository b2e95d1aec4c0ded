"""The same option name means the same in every command, as the table in CONTRIBUTING.md says."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import click
from support import ROOT

from abs_cli.main import cli
from abs_cli.settings import sub_command, sub_commands

#: Flags of commands that have nothing to say of them: click's own.
_OWN = ("--help", "--version")


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    for name in sub_commands(command):
        inner = sub_command(command, name)
        assert inner is not None
        yield from walk(inner, f"{path} {name}")


def options() -> Iterator[tuple[str, click.Option]]:
    for path, command in walk(cli, "abs"):
        for param in command.params:
            if isinstance(param, click.Option):
                yield path, param


def metavar(option: click.Option) -> str:
    if option.is_flag:
        return "flag"
    return option.metavar or option.make_metavar(click.Context(cli))


def shared() -> dict[str, set[str]]:
    """The options that several commands have, with the metavars there."""
    metavars: dict[str, list[str]] = defaultdict(list)
    for _, option in options():
        metavars[option.opts[0] if option.opts[0].startswith("--") else option.opts[-1]].append(metavar(option))
    return {name: set(values) for name, values in metavars.items() if len(values) > 1 and name not in _OWN}


def table() -> dict[str, set[str]]:
    """The rows of CONTRIBUTING.md: option -> metavars."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## What an option name means")[2]
    rows = re.findall(r"^\| `(--[a-z-]+)` \| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    assert all(meaning.strip() for _, _, meaning in rows)
    return {name: set(re.findall(r"`([^`]+)`", metavars)) | ({"flag"} & {metavars}) for name, metavars, _ in rows}


def test_the_table_says_what_every_shared_option_takes() -> None:
    assert table() == {name: {value.replace("|", r"\|") for value in values} for name, values in shared().items()}


def test_an_option_is_a_flag_everywhere_or_nowhere() -> None:
    assert not {name: values for name, values in shared().items() if "flag" in values and len(values) > 1}


def test_every_option_has_a_line_of_help_and_a_metavar_that_says_what_it_takes() -> None:
    for path, option in options():
        assert option.help, f"{path} {option.opts}"
        words = ("INTEGER", "FLOAT", "TEXT", "DIRECTORY", "NUMBER", "RANGE", "BOOLEAN")
        bad = [word for word in words if word in metavar(option).split()]
        assert not bad or option.metavar == "TEXT", f"{path} {option.opts}: {metavar(option)}"


def test_no_option_has_a_second_long_name_but_the_singular_of_methods() -> None:
    double = {tuple(name for name in option.opts if name.startswith("--")) for _, option in options()}
    assert {names for names in double if len(names) > 1} == {("--methods", "--method")}
