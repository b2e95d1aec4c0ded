"""``abs bundle merge``: one bundle out of several."""

from __future__ import annotations

from typing import Literal

import click

from abs_cli.console import note
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle

__all__ = ["command"]


@click.command("merge")
@click.argument("references", nargs=-1, required=True, metavar="BUNDLE BUNDLE...")
@click.option("--name", help="Of the new bundle.  [default: that of the first]")
@click.option(
    "--on-conflict",
    type=click.Choice(["refuse", "first"]),
    default="refuse",
    show_default=True,
    help="What to do where two bundles disagree: stop, or let the one named earlier win.",
)
@click.option(
    "--labels", metavar="SET", help="Label set of the new bundle, where theirs differ; must have all their classes."
)
@click.option("--licence", help="Of the new bundle, where theirs differ.")
@click.pass_obj
def command(
    home: Home,
    references: tuple[str, ...],
    name: str | None,
    on_conflict: Literal["refuse", "first"],
    labels: str | None,
    licence: str | None,
) -> None:
    """Make one bundle of several, as a new version in the local store. Its header names them all as parents.

    Classes are matched by id. Within a class the descriptions of the first bundle come first, then what the others add;
    a text that is there already is dropped, and the earlier record stays with its provenance and scores.

    A conflict is one text that is a sentence here and a phrase there, or one record id with two texts. With
    `--on-conflict first` the later record loses: its text, or its id. Always refused: a class id with two names.
    Refused unless you say what holds: different label sets or notes (--labels), different licences (--licence).

    Rejected completions of all bundles are kept. What a reviewer rejected in one bundle and another one has is there
    again; how many there are is said. docs/bundle-format.md has every rule.
    """
    from abs_cli.changing import merge_into_store
    from abs_descriptions.bundles.merge import count_readmitted

    made = str(merge_into_store(home, references, name, on_conflict, labels, licence))
    click.echo(made)
    readmitted = count_readmitted(find_bundle(home, made))
    if readmitted:
        note(f"warning: {readmitted} descriptions were rejected by a reviewer in one bundle and are in another one")
