"""``abs bundle validate``: whether a bundle is sound."""

from __future__ import annotations

import click

from abs_cli.console import note
from abs_core.errors import AbsError
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle

__all__ = ["command"]


@click.command("validate")
@click.argument("references", nargs=-1, required=True)
@click.pass_obj
def command(home: Home, references: tuple[str, ...]) -> None:
    """Check every rule of the format, and print the full reference of each sound bundle. Exit code 2 if one is not."""
    broken = 0
    for reference in references:
        try:
            click.echo(find_bundle(home, reference).reference)
        except AbsError as error:
            if click.get_current_context().meta["debug"]:
                raise
            broken += 1
            note(f"abs: error: {error}")
    if broken:
        raise SystemExit(2)
