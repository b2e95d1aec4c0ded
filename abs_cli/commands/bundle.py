"""``abs bundle``: what the local store holds, what is in a bundle, whether it is sound, and how it travels."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.console import note
from abs_cli.home import Home
from abs_cli.vocabulary import find_bundle, shipped_bundles
from abs_core.printable import printable

if TYPE_CHECKING:
    from abs_descriptions.bundle import Bundle

__all__ = ["command"]


@click.group("bundle")
def command() -> None:
    """List, show, check, compare, import and export description bundles."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_bundles(home: Home, as_json: bool) -> None:
    """List the bundles of the local store and those that ship with the toolkit, each with its full reference."""
    from abs_descriptions.store import BundleStore

    entries = BundleStore(home.bundles).list()
    own = {entry.name for entry in entries}
    shipped = [find_bundle(home, name).reference for name in shipped_bundles() if name not in own]
    references = [str(entry) for entry in entries] + shipped
    if as_json:
        click.echo(json.dumps(references))
        return
    for reference in references:
        click.echo(reference)
    note(f"{len(entries)} in {home.bundles}, {len(shipped)} shipped with the toolkit")


@command.command("show")
@click.argument("reference")
@click.option("--class", "class_label", metavar="CLASS", help="Only this class, by id or name.")
@click.option("--json", "as_json", is_flag=True, help="Print the header and the records as JSON lines.")
@click.pass_obj
def show(home: Home, reference: str, class_label: str | None, as_json: bool) -> None:
    """Show the header and the sentences of a bundle."""
    bundle = find_bundle(home, reference)
    wanted = _wanted(bundle, class_label)
    if as_json:
        click.echo(bundle.header.model_dump_json())
        for record in bundle.records():
            if wanted is None or record.class_id == wanted:
                click.echo(
                    json.dumps({"class": record.class_id, "kind": record.kind, "text": record.text}, ensure_ascii=False)
                )
        return
    click.echo("\n".join(_header_lines(bundle)))
    names = {one.id: one.name for one in bundle.header.label_set.classes}
    current = None
    for record in bundle.records():
        if wanted is not None and record.class_id != wanted:
            continue
        if record.class_id != current:
            current = record.class_id
            click.echo(f"\n{printable(names[current])} ({printable(current)})")
        click.echo(f"  {printable(record.text)}")


@command.command("validate")
@click.argument("references", nargs=-1, required=True)
@click.pass_obj
def check(home: Home, references: tuple[str, ...]) -> None:
    """Check every rule of the format, and print the full reference of each sound bundle."""
    for reference in references:
        click.echo(find_bundle(home, reference).reference)


@command.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per class that differs.")
@click.pass_obj
def diff(home: Home, old: str, new: str, as_json: bool) -> None:
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
    for one in diff_bundles(before.path, after.path):
        if as_json:
            click.echo(json.dumps(change_value(one), ensure_ascii=False))
        else:
            click.echo("\n".join(change_lines(one)))


@command.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="Of the new bundle.")
@click.option("--format", "format_name", help="cupl, clip-d, text or csv.  [default: by the file's ending]")
@click.option(
    "--labels", metavar="SET", help="Label set to match the file's classes with.  [default: those of the file]"
)
@click.option("--licence", default="not stated", show_default=True, help="Of the texts.")
@click.option("--source", default="not stated", show_default=True, help="Who or what wrote the texts.")
@click.pass_obj
def import_file(
    home: Home, file: Path, name: str, format_name: str | None, labels: str | None, licence: str, source: str
) -> None:
    """Make a bundle of a CuPL JSON, a CLIP-D JSON, a text file (class TAB sentence) or a CSV.

    Shows first which class each of the file's labels means; a label that means none stops the import.
    """
    from abs_cli.importing import import_foreign

    entry = import_foreign(home, file, name, format_name, labels, licence, source)
    click.echo(str(entry))


@command.command("export")
@click.argument("reference")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "format_name", required=True, help="cupl, clip-d, text or csv.")
@click.option(
    "--key", type=click.Choice(["name", "id"]), default="name", show_default=True, help="What stands for a class."
)
@click.pass_obj
def export(home: Home, reference: str, target: Path, format_name: str, key: Any) -> None:
    """Write the descriptions of a bundle in another tool's format; the same bundle gives the same bytes."""
    from abs_descriptions.bundle_exchange import export_bundle

    count = export_bundle(find_bundle(home, reference).path, target, format_name, key=key)
    note(f"{count.written} descriptions written to {target}, {count.left_out} of another kind left out")


def _wanted(bundle: Bundle, label: str | None) -> str | None:
    if label is None:
        return None
    from abs_descriptions.labels import ClassName, LabelSet

    entry = bundle.header.label_set
    classes = tuple(ClassName(one.id, one.name) for one in entry.classes)
    return LabelSet(entry.name, classes).resolve(label).id


def _header_lines(bundle: Bundle) -> Iterable[str]:
    header = bundle.header
    yield printable(bundle.reference)
    yield f"  created    {header.created}"
    yield f"  label set  {printable(header.label_set.name)}, {header.counts.classes} classes"
    yield f"  records    {header.counts.records}, rejected {header.counts.rejected}"
    for generator in header.generators:
        yield f"  generator  {printable(generator.backend)} {printable(generator.model or '')}"
    yield f"  licence    {printable(header.licence)}"
    for parent in header.parents:
        yield f"  parent     {printable(parent)}"
    if not header.complete:
        yield "  PARTIAL: generation ended before every class had its sentences"
