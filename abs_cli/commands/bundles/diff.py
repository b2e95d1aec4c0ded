"""``abs bundle diff``: what differs between two bundles."""

from __future__ import annotations

import json

import click

from abs_cli.console import note
from abs_cli.home import Home
from abs_cli.vocabulary import find_bundle
from abs_core.printable import printable

__all__ = ["command"]


@click.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per class that differs.")
@click.pass_obj
def command(home: Home, old: str, new: str, as_json: bool) -> None:
    """Show what bundle NEW has that OLD has not, and the reverse, by class and sentence."""
    from abs_descriptions.bundle_changes import change_lines, change_value, diff_bundles, diff_labels

    before, after = find_bundle(home, old), find_bundle(home, new)
    labels = diff_labels(before.header, after.header)
    if not as_json:
        for change, ids in (("new class", labels.added), ("class gone", labels.removed)):
            for class_id in ids:
                click.echo(f"{change}: {printable(class_id)}")
        for class_id, was, now in labels.renamed:
            click.echo(f"renamed: {printable(class_id)} from {printable(was)} to {printable(now)}")
    alike = not (labels.added or labels.removed or labels.renamed)
    for one in diff_bundles(before.path, after.path):
        alike = False
        if as_json:
            click.echo(json.dumps(change_value(one), ensure_ascii=False))
        else:
            click.echo("\n".join(change_lines(one)))
    if alike:
        note("no difference in classes or descriptions")
