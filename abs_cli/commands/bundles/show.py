"""``abs bundle show``: what is in a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from abs_core.home import Home
from abs_core.text import json_text, printable
from abs_descriptions.bundles.repository import find_bundle

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle, BundleHeader

__all__ = ["command"]


@click.command("show")
@click.argument("reference")
@click.option("--class", "class_label", metavar="CLASS", help="Only this class, by id or name.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the header and the records, with provenance and scores, as JSON lines.",
)
@click.pass_obj
def command(home: Home, reference: str, class_label: str | None, as_json: bool) -> None:
    """Show the header and the sentences of a bundle."""
    bundle = find_bundle(home, reference)
    wanted = _wanted(bundle, class_label)
    if as_json:
        for line in _json_lines(bundle, wanted):
            click.echo(json_text(json.loads(line)))
        return
    click.echo("\n".join(_header_lines(bundle)))
    names = bundle.header.label_set.names
    current = None
    for record in bundle.records():
        if wanted is not None and record.class_id != wanted:
            continue
        if record.class_id != current:
            current = record.class_id
            click.echo(f"\n{printable(names[current])} ({printable(current)})")
        click.echo(f"  {printable(record.text)}")


def _json_lines(bundle: Bundle, wanted: str | None) -> Iterator[str]:
    """Header and records as the format has them, with provenance and scores."""
    from abs_descriptions.bundles.codec import serialize_header, serialize_record

    yield serialize_header(bundle.header)
    for record in bundle.records():
        if wanted is None or record.class_id == wanted:
            yield serialize_record(record)


def _wanted(bundle: Bundle, label: str | None) -> str | None:
    return None if label is None else bundle.header.label_set.resolve(label).id


def _header_lines(bundle: Bundle) -> Iterable[str]:
    header = bundle.header
    yield printable(bundle.reference)
    yield f"  created    {header.created}"
    yield f"  label set  {printable(header.label_set.name)}, {_classes(header)}"
    yield f"  records    {header.counts.records}, rejected {header.counts.rejected}"
    for generator in header.generators:
        yield f"  generator  {printable(generator.backend)} {printable(generator.model or '')}"
    yield f"  licence    {printable(header.license)}"
    for parent in header.parents:
        yield f"  parent     {printable(parent)}"
    if not header.complete:
        yield "  PARTIAL: a class has no description, or the run that wrote them ended early"


def _classes(header: BundleHeader) -> str:
    total, described = len(header.label_set.classes), header.counts.classes
    return f"{total} classes" if described == total else f"{total} classes, {described} of them with descriptions"
