"""``abs datasets``: which data sets can be read, and what is in one."""

from __future__ import annotations

import json
from collections import Counter

import click

from abs_core.printable import printable

__all__ = ["command"]


@click.group("datasets")
def command() -> None:
    """List the data sets that can be read, or show one."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_kinds(as_json: bool) -> None:
    """List the kinds of data sets and how they are written."""
    from abs_classify.datasets import KINDS

    if as_json:
        click.echo(json.dumps([{"usage": kind.usage, "summary": kind.summary} for kind in KINDS]))
        return
    for kind in KINDS:
        click.echo(f"{kind.usage:<18} {kind.summary}")


@command.command("show")
@click.argument("spec")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(spec: str, as_json: bool) -> None:
    """Count the images and classes of the data set SPEC, such as imagefolder:./val. Opens no image."""
    from abs_classify.datasets import open_dataset

    data = open_dataset(spec)
    counts = Counter(item.label for item in data.items)
    if as_json:
        rows = [{"id": one.id, "name": one.name, "images": counts[one.id]} for one in data.classes]
        click.echo(json.dumps({"name": data.name, "images": len(data.items), "classes": rows}, ensure_ascii=False))
        return
    empty = sum(1 for one in data.classes if not counts[one.id])
    click.echo(f"{printable(data.name)}: {len(data.items)} images, {len(data.classes)} classes, {empty} without images")
    for one in data.classes:
        name = "" if one.name == one.id else f"  {one.name}"
        click.echo(f"{counts[one.id]:>7}  {printable(one.id + name)}")
