"""``abs bundle diff``: what differs between two bundles."""

from __future__ import annotations

import json

import click

from abs_cli.console import note
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle

__all__ = ["command"]


@click.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: the label sets, then each class that differs.")
@click.pass_obj
def command(home: Home, old: str, new: str, as_json: bool) -> None:
    """Show what bundle NEW has that OLD has not, and the reverse, by class and sentence.

    With `--json` the first line is {"labels": {"added", "removed", "renamed", "noted"}} if the label sets differ: ids
    of classes that came and went, and those with another name or note. A line per class follows.
    """
    from abs_descriptions.bundles.diff import (
        change_lines,
        change_value,
        diff_bundles,
        diff_labels,
        label_lines,
        label_value,
    )

    before, after = find_bundle(home, old), find_bundle(home, new)
    labels = diff_labels(before.header, after.header)
    lines = list(label_lines(labels))
    if lines:
        click.echo(json.dumps(label_value(labels), ensure_ascii=False) if as_json else "\n".join(lines))
    alike = not lines
    for one in diff_bundles(before.path, after.path):
        alike = False
        if as_json:
            click.echo(json.dumps(change_value(one), ensure_ascii=False))
        else:
            click.echo("\n".join(change_lines(one)))
    if alike:
        note("no difference in classes or descriptions")
