"""``abs bundle validate``: whether a bundle is sound."""

from __future__ import annotations

import click

from abs_cli.home import Home
from abs_cli.vocabulary import find_bundle

__all__ = ["command"]


@click.command("validate")
@click.argument("references", nargs=-1, required=True)
@click.pass_obj
def command(home: Home, references: tuple[str, ...]) -> None:
    """Check every rule of the format, and print the full reference of each sound bundle."""
    for reference in references:
        click.echo(find_bundle(home, reference).reference)
