"""``abs bundle diff``: what changed from one version to another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from abs_cli.completion_values import complete_bundle
from abs_cli.console import note, text_style
from abs_core.errors import UsageError
from abs_core.home import Home

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.bundles.diff import ClassChange, LabelChange

__all__ = ["diff_command"]


@click.command("diff")
@click.argument("old", metavar="[OLD]", shell_complete=complete_bundle)
@click.argument("new", required=False, shell_complete=complete_bundle)
@click.option("--stat", is_flag=True, help="Show only how much differs: a line for each class, and the total.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: the label sets, then each class that differs.")
@click.pass_obj
def diff_command(home: Home, old: str, new: str | None, stat: bool, as_json: bool) -> None:
    """Show what bundle NEW has that OLD has not, and the reverse, by class and sentence. With one bundle, OLD is what
    it was made of, its first parent.

    Sentences that are gone are marked -, new ones +, and those whose kind, provenance, scores or id differ =. An edit
    is marked ~, with the old text beside the new one and the words that differ as [-old-] and {+new+}, or in colour.
    What is an edit follows from record ids and from what reviews and imports recorded, else from how alike texts are.

    With `--json` the first line is {"labels": {"added", "removed", "renamed", "noted"}} if the label sets differ: ids
    of classes that came and went, and those with another name or note. A line per class follows: its texts that are
    "added", "removed", "edited" ({"old", "new"}), "altered" otherwise, how many are "kept" and how many are newly
    "accepted"; with `--stat` only numbers, and a line {"total"} at the end.

    \b
    abs bundle diff birds                  # the latest version and its parent
    abs bundle diff birds@1.0.0 birds --stat
    """
    from abs_descriptions.bundles.diff import diff_bundles, diff_labels

    before, after = _pair(home, old, new)
    labels = diff_labels(before.header, after.header)
    changes = diff_bundles(before.path, after.path)
    differ = False
    for line in _json_lines(labels, changes, stat) if as_json else _text_lines(labels, changes, stat):
        differ = True
        click.echo(line)
    if not differ:
        note("no difference in classes or descriptions")


def _pair(home: Home, old: str, new: str | None) -> tuple[Bundle, Bundle]:
    """The two bundles to compare."""
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import find_bundle

    store = Repository.local(home.bundles)
    if new is not None:
        return find_bundle(store, old), find_bundle(store, new)
    bundle = find_bundle(store, old)
    if not bundle.header.parents:
        raise UsageError(
            f"{bundle.header.name}@{bundle.header.version} was not made of another bundle",
            remedy="Name two bundles to compare",
        )
    parent = find_bundle(store, bundle.header.parents[0])
    note(f"against {parent.reference}")
    return parent, bundle


def _text_lines(labels: LabelChange, changes: Iterator[ClassChange], stat: bool) -> Iterator[str]:
    from abs_descriptions.bundles.change_view import change_lines, label_lines, stat_lines

    style = text_style()
    yield from label_lines(labels)
    if stat:
        yield from stat_lines(changes, style)
        return
    for change in changes:
        yield from change_lines(change, style)


def _json_lines(labels: LabelChange, changes: Iterator[ClassChange], stat: bool) -> Iterator[str]:
    from abs_descriptions.bundles.diff import ChangeCounts, change_value, label_value

    if labels.differs:
        yield json.dumps(label_value(labels), ensure_ascii=False)
    total = ChangeCounts()
    for change in changes:
        total += change.counts
        counts = {"class": change.class_id, "name": change.name, **change.counts.to_dict()}
        del counts["classes"]
        yield json.dumps(counts if stat else change_value(change), ensure_ascii=False)
    if stat:
        yield json.dumps({"total": total.to_dict()})
