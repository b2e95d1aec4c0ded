"""`abs demo`: the two commands that it runs, and what it says at the end."""

from __future__ import annotations

import shlex

import click
import pytest
from support import Abs

from abs_cli.main import cli

ALWAYS = [
    "--dataset",
    "demo",
    "--dataset",
    "demo:small",
    "--bundle",
    "demo",
    "--methods",
    "clip,cupl,wca,abs-random,abs",
]


@pytest.mark.parametrize(
    ("emulated", "options", "dtype"),
    [
        (True, (), []),
        (False, (), ["--dtype", "bfloat16"]),
        (False, ("--dtype", "float32"), []),
        (True, ("--dtype", "bfloat16"), ["--dtype", "bfloat16"]),
    ],
)
def test_lower_precision_is_an_option_of_the_command_that_it_shows(
    emulated: bool, options: tuple[str, ...], dtype: list[str], abs_command: Abs, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def recorder(name: str) -> click.Command:
        arguments = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
        settings = {"ignore_unknown_options": True}
        return click.Command(
            name, params=[arguments], callback=lambda arguments: ran.append(list(arguments)), context_settings=settings
        )

    monkeypatch.setattr("abs_cli.commands.gen_descriptions.command", recorder("gen-descriptions"))
    monkeypatch.setattr("abs_cli.commands.eval.command", recorder("eval"))
    monkeypatch.setattr("abs_classify.models.base.emulates", lambda *_: emulated)
    done = abs_command("demo", "--report", "pages", "--threads", "1", *options)
    assert done.code == 0, done.err
    assert ran == [
        ["demo", "--name", "demo", "--per-class", "5", "--threads", "1"],
        [*ALWAYS, *dtype, "--report", "pages", "--threads", "1"],
    ]
    assert f"$ abs eval {shlex.join(ran[1])}" in done.err
    lines = done.err.splitlines()
    assert lines[-2].endswith("; open pages/index.html")
    _can_be_read(lines[-1].partition(": ")[2])


def _can_be_read(line: str) -> None:
    """What the last line offers is a command with options that exist; it is not run."""
    program, name, *arguments = shlex.split(line)
    command = cli.get_command(click.Context(cli), name)
    assert (program, name) == ("abs", "label")
    assert command is not None
    given = command.make_context(name, arguments, resilient_parsing=True).params
    assert given["labels"] == "cat,dog,car"


def test_a_page_for_two_parts_is_refused_before_anything_is_computed(abs_command: Abs) -> None:
    assert "--report must be a folder, got 'out/report.html'" in abs_command.refuses(
        "demo", "--report", "out/report.html"
    )
