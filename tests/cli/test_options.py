"""Options that several commands share."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from abs_cli.options import RenamedOption


@click.command()
@click.option("--images", cls=RenamedOption, former=["--photos"], default=60, help="How many.")
def show(images: int) -> None:
    click.echo(images)


@pytest.mark.parametrize(("arguments", "shown"), [([], "60"), (["--images", "3"], "3"), (["--photos", "4"], "4")])
def test_a_former_name_of_an_option_still_works(arguments: list[str], shown: str) -> None:
    assert CliRunner().invoke(show, arguments).output == f"{shown}\n"


def test_help_does_not_show_a_former_name() -> None:
    assert "--images INTEGER" in CliRunner().invoke(show, ["--help"]).output
    assert "photos" not in CliRunner().invoke(show, ["--help"]).output
