"""``abs datasets``: the kinds of data sets, the content of one, and what is missing of one."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import click

from abs_cli.completion_values import complete_dataset
from abs_cli.console import PlainGroup
from abs_cli.exit_codes import ExitCode
from abs_cli.plugin_options import plugin_mark, plugin_option, plugin_value
from abs_core.text import counted, json_text, printable

if TYPE_CHECKING:
    from abs_classify.datasets import Dataset, DatasetReport

__all__ = ["command"]


@click.group("datasets", cls=PlainGroup)
def command() -> None:
    """List the kinds of data sets, show a data set, or check what it lacks."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_option
def list_kinds(as_json: bool) -> None:
    """List the kinds of data sets and how to write them."""
    from abs_classify.datasets.registry import dataset_kinds

    if as_json:
        rows = [
            {
                "usage": kind.usage,
                "summary": kind.summary,
                "splits": {split.name: split.images for split in kind.benchmark.splits} if kind.benchmark else {},
                "plugin": plugin_value("data set", kind.name),
            }
            for kind in dataset_kinds()
        ]
        click.echo(json.dumps(rows))
        return
    for kind in dataset_kinds():
        click.echo(printable(f"{kind.usage:<20} {kind.summary}{plugin_mark('data set', kind.name)}"))


@command.command("show")
@click.argument("spec", shell_complete=complete_dataset)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_option
def show(spec: str, as_json: bool) -> None:
    """Count the images and classes of the data set SPEC, such as imagefolder:./val. Opens no image.

    Options follow a question mark: 'dtd:./dtd?split=test2', 'imagefolder:./photos?split=val',
    'csv:list.csv?path=file&label=species'.
    """
    from abs_classify.datasets import open_dataset

    data = open_dataset(spec)
    counts = Counter(data.labels)
    if as_json:
        click.echo(json_text(_as_dict(data, counts)))
        return
    empty = sum(1 for label in data.classes if not counts[label.id])
    images, classes = counted(len(data.samples), "image", "images"), counted(len(data.classes), "class", "classes")
    click.echo(f"{printable(data.name)}: {images}, {classes}, {empty} without images")
    if data.benchmark:
        click.echo(f"{data.benchmark}, {data.split}")
    for note in (*data.notes, *map(str, data.remarks)):
        click.echo(f"note: {printable(note)}")
    for label in data.classes:
        name = "" if label.name == label.id else f"  {label.name}"
        click.echo(f"{counts[label.id]:>7}  {printable(label.id + name)}")


@command.command("check")
@click.argument("name", shell_complete=complete_dataset)
@click.option("--root", metavar="PATH", help="Folder of the data set, or the file that lists its images.")
@click.option("--split", metavar="NAME", help="Split of the data set.  [default: the one that papers report]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_option
def check(name: str, root: str | None, split: str | None, as_json: bool) -> int:
    """Say what the data set NAME has, what it lacks, and what to do next. Opens no image.

    NAME is a kind of data set, as `abs datasets ls` lists them, with its folder in --root, or a whole spec. The exit
    code is 1 if the data set cannot be used as it is.
    """
    from abs_classify.datasets import check_dataset

    spec = name if root is None else f"{name}:{root}"
    if split is not None:
        spec += f"{'&' if '?' in spec else '?'}split={split}"
    report = check_dataset(spec)
    if as_json:
        click.echo(json_text(report.to_dict()))
    else:
        _print(report)
    return ExitCode.DONE if report.complete else ExitCode.FINDING


def _print(report: DatasetReport) -> None:
    click.echo(f"{printable(report.spec)}: {'complete' if report.complete else 'cannot be used as it is'}")
    for line in report.there:
        click.echo(f"  found    {printable(line)}")
    for line in report.missing:
        click.echo(f"  missing  {printable(line)}")
    click.echo(f"  next     {printable(report.next_step)}")


def _as_dict(data: Dataset, counts: Counter[str]) -> dict[str, object]:
    return {
        "name": data.name,
        "benchmark": data.benchmark,
        "split": data.split,
        "images": len(data.samples),
        "classes": [{"id": label.id, "name": label.name, "images": counts[label.id]} for label in data.classes],
        "selected": list(data.selected),
        "notes": list(data.notes),
        "remarks": [remark.as_json() for remark in data.remarks],
    }
