"""``abs results``: what evaluations found, listed, shown again and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.console import PlainGroup, note
from abs_core.errors import AbsError, ResultError
from abs_core.home import Home
from abs_core.text import json_text, printable

if TYPE_CHECKING:
    from abs_classify.evaluation.records import ResultRecord

__all__ = ["command"]


@click.group("results", cls=PlainGroup)
def command() -> None:
    """List, show and compare the result files that `abs eval` writes."""


_RESULTS = click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for result files.  [default: results/ in --home]",
)


@command.command("ls")
@_RESULTS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_runs(home: Home, results: Path | None, as_json: bool) -> None:
    """List the runs, oldest first: when, what, how many results."""
    from abs_classify.evaluation.results_folder import ResultsFolder, read_result

    rows = []
    for run in ResultsFolder(results or home.results).runs():
        records, unreadable = [], 0
        for path in sorted(run.glob("*.json")):
            try:
                records.append(read_result(path))
            except AbsError:
                unreadable += 1
        rows.append(_row(run.name, records, unreadable))
    if as_json:
        click.echo(json_text(rows))
        return
    for row in rows:
        parts = [", ".join(row[name]) for name in ("datasets", "models", "bundles", "methods") if row[name]]
        tail = f"; {row['unreadable']} files cannot be read, see `abs results show`" if row["unreadable"] else ""
        click.echo(printable(f"{row['run']}  {row['results']:>3} results  {'; '.join(parts)}{tail}"))
    if not rows:
        note("no results yet; `abs eval` writes them")


@command.command("show")
@click.argument("names", nargs=-1, required=True, metavar="RUN|FILE|DIR...")
@_RESULTS
@click.option("--export-csv", type=click.Path(dir_okay=False, path_type=Path), help="Write one row for each result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result records as JSON.")
@click.pass_obj
def show(home: Home, names: tuple[str, ...], results: Path | None, export_csv: Path | None, as_json: bool) -> None:
    """Print the tables of runs again, together: one for each data set, and one over all.

    RUN is the name of a run or its beginning, or `last`.
    """
    from abs_classify.evaluation.export import write_csv
    from abs_classify.evaluation.result_tables import tables_text

    records = _read(home, names, results)
    if as_json:
        click.echo(json_text({"results": [record.model_dump(mode="json") for record in records]}))
    else:
        click.echo(tables_text(records))
    if export_csv is not None:
        write_csv(export_csv, records)
        note(f"table: {export_csv}")


@command.command("compare")
@click.argument("first", metavar="RUN|FILE|DIR")
@click.argument("second", metavar="RUN|FILE|DIR")
@_RESULTS
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all digits.")
@click.pass_obj
def compare(home: Home, first: str, second: str, results: Path | None, as_json: bool) -> None:
    """Compare two runs on the same images, method by method: paired differences with intervals and exact p-values.

    Where both runs cross models or bundles, results of the same model and bundle are paired. Two files are compared
    whatever their methods.
    """
    from abs_classify.evaluation.result_tables import alike, comparison_text, comparison_value

    ours, theirs = _read(home, (first,), results), _read(home, (second,), results)
    pairs = [(ours[0], theirs[0])] if len(ours) == len(theirs) == 1 else alike(ours, theirs)
    if not pairs:
        raise ResultError(
            f"{first!r} and {second!r} have no method on the same images in common",
            remedy="Compare runs on the same images, or name two files",
        )
    if as_json:
        click.echo(json_text({"comparisons": [comparison_value(*pair) for pair in pairs]}))
        return
    table = comparison_text(pairs)
    for name, side in zip(("first", "second"), zip(*pairs, strict=True), strict=True):
        parts = [("run", [one.details.run.id for one in side]), ("model", [one.details.weights.name for one in side])]
        parts.append(("classes from", [one.details.classes.source for one in side]))
        facts = [f"{what} {', '.join(dict.fromkeys(values))}" for what, values in parts]
        click.echo(printable(f"{name}: {'; '.join(facts)}"))
    click.echo(table)


def _read(home: Home, names: tuple[str, ...], results: Path | None) -> list[ResultRecord]:
    from abs_classify.evaluation.results_folder import ResultsFolder, read_result

    folder = ResultsFolder(results or home.results)
    paths = dict.fromkeys(path for name in names for path in folder.find(name))
    return sorted((read_result(path) for path in paths), key=_order)


def _order(record: ResultRecord) -> tuple[str, str, str, str, int]:
    from abs_classify.methods.table import METHODS

    rows = list(METHODS)
    place = rows.index(record.method) if record.method in rows else len(rows)
    return record.details.data.spec, record.details.weights.name, record.bundle, record.details.run.id, place


def _row(run: str, records: list[ResultRecord], unreadable: int) -> dict[str, Any]:
    return {
        "run": run,
        "results": len(records),
        "datasets": list(dict.fromkeys(record.dataset for record in records)),
        "models": list(dict.fromkeys(record.details.weights.name for record in records)),
        "bundles": list(dict.fromkeys(record.bundle.partition("#")[0] for record in records if record.bundle)),
        "methods": list(dict.fromkeys(record.method for record in records)),
        "unreadable": unreadable,
    }
