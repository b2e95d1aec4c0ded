"""`abs demo`: the two commands that it runs."""

from __future__ import annotations

import click
import pytest
from support import Abs

ALWAYS = ["--dataset", "demo", "--bundle", "demo", "--methods", "clip,cupl,wca,abs"]


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
    done = abs_command("demo", "--report", "page.html", "--threads", "1", *options)
    assert done.code == 0, done.err
    assert ran == [
        ["demo", "--name", "demo", "--threads", "1"],
        [*ALWAYS, *dtype, "--report", "page.html", "--threads", "1"],
    ]
    assert f"$ abs eval {' '.join(ran[1])}" in done.err
