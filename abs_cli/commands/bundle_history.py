"""``abs bundle ls, log, diff``: which versions there are, what each was made of, and what changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from abs_cli.completion_values import complete_bundle, complete_bundle_name, complete_location
from abs_cli.console import note, text_style
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_core.text import counted, json_text, printable

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.bundles.diff import ClassChange, LabelChange
    from abs_descriptions.bundles.history import ListedVersion

__all__ = ["diff_command", "list_command", "log_command"]

_HEADINGS = ("BUNDLE", "CREATED", "CLASSES", "DESCRIPTIONS", "PARENTS", "STATUS")
# What goes first where a terminal is narrow.
_DISPENSABLE = ("PARENTS", "CLASSES", "DESCRIPTIONS", "CREATED")
_LEAST_STATUS = 16


@click.command("ls")
@click.argument("name", required=False, shell_complete=complete_bundle_name)
@click.option("--latest", is_flag=True, help="List only the version that each name alone means.")
@click.option("--references", is_flag=True, help="Print only the pinned references, one on a line.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON: an object for each version, with its pinned `reference`; `yanked` is the reason or null.",
)
@click.option(
    "--remote",
    is_flag=False,
    flag_value="",
    metavar="[LOCATION]",
    help="List the bundles at LOCATION instead, a place as for `abs bundle pull`.  [LOCATION: the default remote]",
    shell_complete=complete_location,
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="With --remote: list up to N versions.  [default: 1000]",
)
@click.pass_obj
def list_command(
    home: Home, name: str | None, latest: bool, references: bool, as_json: bool, remote: str | None, limit: int | None
) -> None:
    """List the versions of NAME, or of all bundles, in the local store and among those that ship with the toolkit.

    The version that a name alone means is `latest`: the highest release that is not yanked. Times are UTC. With
    --remote the parents are not listed, which would take the bytes of every version.
    """
    from abs_descriptions.bundles.history import list_versions
    from abs_descriptions.bundles.remotes import Remotes
    from abs_descriptions.bundles.repository import Repository

    if as_json and references:
        raise UsageError("--json and --references exclude each other", remedy="Leave one of them out")
    if remote is None and limit is not None:
        raise UsageError("--limit needs --remote", remedy="Leave out --limit, or give --remote LOCATION")
    is_local = remote is None
    place = Remotes(home.remotes).find(remote or None).location if not is_local else ""
    repository = Repository.local(home.bundles) if is_local else Repository.open(place)
    listing = list_versions(repository, name, **({} if is_local else {"limit": limit or 1000}))
    for problem in listing.problems:
        note(f"left out: {problem}")
    shown = [version for version in listing.versions if version.is_meant or not latest]
    if as_json:
        click.echo(json.dumps([version.to_dict() for version in shown]))
    else:
        for line in map(str, (version.manifest for version in shown)) if references else _table(shown, is_local):
            click.echo(line)
    shipped = sum(version.origin == "shipped" for version in shown)
    local = f" in {home.bundles}, {shipped} shipped with the toolkit"
    beyond = "; there are more, see --limit" if listing.truncated else ""
    note(f"{len(shown) - shipped}{local if is_local else f' in {repository.address}{beyond}'}")


def _table(versions: Sequence[ListedVersion], is_local: bool) -> list[str]:
    """Aligned columns. On a terminal that is too narrow some are left out, and the last one is cut."""
    if not versions:
        return []
    columns = [name for name in _HEADINGS if is_local or name != "PARENTS"]
    rows = [dict(zip(_HEADINGS, _HEADINGS, strict=True)), *(_cells(version) for version in versions)]
    width = text_style().width if sys.stdout.isatty() else None
    widths = {name: max(len(row[name]) for row in rows) for name in columns}
    for name in _DISPENSABLE:
        needed = sum(widths[column] + 2 for column in columns[:-1]) + min(_LEAST_STATUS, widths["STATUS"])
        if width is not None and needed > width and name in columns:
            columns.remove(name)
    lines = []
    for row in rows:
        cells = [
            f"{row[name]:>{widths[name]}}" if name in ("CLASSES", "DESCRIPTIONS") else f"{row[name]:<{widths[name]}}"
            for name in columns
        ]
        line = "  ".join(cells).rstrip()
        lines.append(line if width is None or len(line) <= width else f"{line[: width - 1]}…")
    return lines


def _cells(version: ListedVersion) -> dict[str, str]:
    from abs_descriptions.bundles.history_view import minute

    manifest = version.manifest
    parents = [parent.partition("#")[0].removeprefix(f"{manifest.name}@") for parent in version.parents or ()]
    status = [
        *(["latest"] if version.is_meant else []),
        *(["shipped"] if version.origin == "shipped" else []),
        *([] if manifest.complete else ["partial"]),
        *([] if version.yanked is None else [f"YANKED: {printable(version.yanked)}"]),
    ]
    return dict(
        zip(
            _HEADINGS,
            (
                f"{manifest.name}@{manifest.version}",
                minute(manifest.created),
                str(manifest.counts.classes),
                str(manifest.counts.records),
                "?" if version.parents is None else ", ".join(parents),
                ", ".join(status),
            ),
            strict=True,
        )
    )


@click.command("log")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option("--all", "every", is_flag=True, help="Show every version of the bundle's name.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Show up to N versions."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines: an object for each version, the newest first.")
@click.pass_obj
def log_command(home: Home, reference: str, every: bool, limit: int, as_json: bool) -> None:
    """Show the versions that BUNDLE was made of, the newest first: when and by whom each was made, and what changed.

    What changed is counted against each parent: +12 descriptions that are new, -3 that are gone, ~2 whose text was
    edited, and those that a reviewer accepted. `abs bundle diff` shows the sentences. Lines at the left lead from a
    merge to its parents. A parent that is neither in the local store nor ships with the toolkit is "not here". Times
    are UTC.

    The version that a name alone means is `latest`, one that was marked by `abs bundle yank` YANKED.
    """
    from abs_descriptions.bundles.history import read_history
    from abs_descriptions.bundles.history_view import history_lines
    from abs_descriptions.bundles.repository import Repository

    history = read_history(Repository.local(home.bundles), reference, every=every, limit=limit)
    if as_json:
        for entry in history.entries:
            click.echo(json_text(entry.to_dict(history.changes(entry))))
    else:
        for line in history_lines(history, text_style()):
            click.echo(line)
    for problem in history.problems:
        note(f"left out: {problem}")
    if len(history.entries) < history.total:
        note(f"{len(history.entries)} of {history.total} versions; --limit {history.total} shows all")
    if history.others:
        note(
            f"{counted(len(history.others), 'other version', 'other versions')} of the name; --all shows "
            f"{'it' if len(history.others) == 1 else 'them'} too"
        )


@click.command("diff")
@click.argument("old", metavar="[OLD]", shell_complete=complete_bundle)
@click.argument("new", metavar="NEW", required=False, shell_complete=complete_bundle)
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
    from abs_descriptions.bundles.change_view import change_lines, label_lines, label_summary, stat_lines

    style = text_style()
    if stat:
        if labels.differs:
            yield f" label set: {label_summary(labels)}"
        yield from stat_lines(changes, style)
        return
    yield from label_lines(labels)
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
