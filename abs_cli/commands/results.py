"""``abs results``: what evaluations found, listed, shown again and compared."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import click

from abs_cli.completion_values import complete_method, complete_run
from abs_cli.console import PlainGroup, note
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_core.text import counted, json_text, printable

__all__ = ["command"]


@click.group("results", cls=PlainGroup)
def command() -> None:
    """List, show and compare the result files that `abs eval` writes."""


_RESULTS = click.option(
    "--results",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for result files.  [default: results/ in --home]",
)


@command.command("ls")
@_RESULTS
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_runs(home: Home, results: Path | None, as_json: bool) -> None:
    """List the runs, oldest first: when, what, how many results."""
    from abs_classify.evaluation.results_folder import ResultsFolder

    runs = ResultsFolder(results or home.results).summaries()
    if as_json:
        click.echo(json_text([asdict(run) for run in runs]))
        return
    for run in runs:
        parts = [", ".join(names) for names in (run.datasets, run.models, run.bundles, run.methods) if names]
        tail = (
            f"; {counted(run.unreadable, 'file', 'files')} cannot be read, see `abs results show`"
            if run.unreadable
            else ""
        )
        click.echo(printable(f"{run.run}  {counted(run.results, 'result', 'results'):>11}  {'; '.join(parts)}{tail}"))
    if not runs:
        note("no results yet; `abs eval` writes them")


@command.command("show")
@click.argument("names", nargs=-1, required=True, metavar="RUN|FILE|DIR...", shell_complete=complete_run)
@_RESULTS
@click.option(
    "--export-csv",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a CSV file with one row for each result.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result records as JSON.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["text", "markdown", "latex", "csv", "json"]),
    help="Print one table for a paper instead: intervals, differences over all seeds, p corrected by Holm, costs.",
)
@click.option(
    "--base",
    metavar="NAME",
    shell_complete=complete_method,
    help="With --format: the method that others are compared with.  [default: clip]",
)
@click.pass_obj
def show(
    home: Home,
    names: tuple[str, ...],
    results: Path | None,
    export_csv: Path | None,
    as_json: bool,
    format_name: str | None,
    base: str | None,
) -> None:
    """Print the tables of runs again, together: one for each data set, and one over all.

    RUN is the name of a run or its beginning, or `last`.
    """
    from abs_classify.evaluation.export import write_csv
    from abs_classify.evaluation.paper_table import result_table
    from abs_classify.evaluation.results_folder import ResultsFolder
    from abs_classify.evaluation.tables import tables_text

    if as_json and format_name is not None:
        raise UsageError("--json and --format exclude each other", remedy="Give one of them")
    if base is not None and format_name is None:
        raise UsageError("--base needs --format", remedy="Add --format text, markdown, latex, csv or json")
    records = ResultsFolder(results or home.results).read(names)
    if format_name is not None:
        click.echo(_formatted(result_table(records, base=base or "clip"), format_name), nl=False)
    elif as_json:
        click.echo(json_text({"results": [record.model_dump(mode="json") for record in records]}))
    else:
        click.echo(tables_text(records))
    if export_csv is not None:
        write_csv(export_csv, records)
        note(f"table: {export_csv}")


class _FormattedTable(Protocol):
    """What prints in several formats."""

    def text(self) -> str: ...
    def markdown(self) -> str: ...
    def csv(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...


def _formatted(table: _FormattedTable, name: str) -> str:
    """A table in a format, with a final line feed."""
    if name == "json":
        return json_text(table.to_dict()) + "\n"
    text: str = getattr(table, name)()
    return text if text.endswith("\n") else text + "\n"


@command.command("classes")
@click.argument("name", metavar="RUN|FILE|DIR", shell_complete=complete_run)
@_RESULTS
@click.option(
    "--method",
    metavar="NAME",
    shell_complete=complete_method,
    help="The method to show.  [default: abs if it ran, else the last one]",
)
@click.option(
    "--against",
    metavar="NAME",
    shell_complete=complete_method,
    help="Another method of the run: show which classes gain and lose from it.",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["text", "markdown", "csv", "json"]),
    default="text",
    show_default=True,
    help="CSV and JSON have all classes and all digits.",
)
@click.option(
    "--rows",
    metavar="N",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Rows of text and Markdown tables.",
)
@click.option(
    "--matrix",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the confusion matrix: a .csv file with true classes as rows, or .json.",
)
@click.pass_obj
def show_classes(
    home: Home,
    name: str,
    results: Path | None,
    method: str | None,
    against: str | None,
    format_name: str,
    rows: int,
    matrix: Path | None,
) -> None:
    """Show where a method is right, and what it confuses: accuracy by class, pairs of classes, gains over another.

    Of a run with several data sets, models or bundles, name the file of one result.
    """
    from abs_classify.evaluation.class_accuracy import confusion_matrix
    from abs_classify.evaluation.class_tables import class_page, write_matrix
    from abs_classify.evaluation.results_folder import PredictionReader, ResultsFolder

    if matrix is not None and matrix.suffix.lower() not in (".csv", ".json"):
        raise UsageError(
            f"the matrix goes to a .csv or .json file, got {str(matrix)!r}", remedy="Change the ending of its name"
        )
    records = ResultsFolder(results or home.results).read([name])
    reader = PredictionReader.of(records)
    combinations = {record.details.predictions for record in records}
    if len(combinations) > 1:
        raise UsageError(
            f"{name!r} holds {len(combinations)} combinations of data sets, models and bundles",
            remedy="Name the file of one result, see the folder of the run",
        )
    predictions = reader.read(records[0])
    ran = [record.method for record in records]
    chosen = method or ("abs" if "abs" in ran else ran[-1])
    title = f"{chosen} on {records[0].details.data.spec}, {records[0].label('model')}"
    page = class_page(predictions, chosen, against or "", title=title, limit=rows)
    click.echo(_formatted(page, format_name), nl=False)
    if matrix is not None:
        write_matrix(confusion_matrix(predictions, chosen), matrix)
        note(f"confusion matrix: {matrix}")


@command.command("plot")
@click.argument("names", nargs=-1, required=True, metavar="RUN|FILE|DIR...", shell_complete=complete_run)
@_RESULTS
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for the figures.",
)
@click.option(
    "--base",
    metavar="NAME",
    shell_complete=complete_method,
    default="clip",
    show_default=True,
    help="The method that others are compared with.",
)
@click.pass_obj
def plot(home: Home, names: tuple[str, ...], results: Path | None, out: Path, base: str) -> None:
    """Draw figures as PNG and PDF: accuracies with intervals, accuracy against cost, gains by class.

    Needs the extra `plots`.
    """
    from abs_classify.evaluation.figures import write_figures
    from abs_classify.evaluation.results_folder import ResultsFolder

    for path in write_figures(ResultsFolder(results or home.results).read(names), out, base=base):
        note(f"figure: {path}")


@command.command("merge")
@click.argument("places", nargs=-1, required=True, metavar="RUN|DIR...", shell_complete=complete_run)
@_RESULTS
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="New folder for the merged results.  [default: a run of its own in the results folder]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result records as JSON.")
@click.pass_obj
def merge(home: Home, places: tuple[str, ...], results: Path | None, out: Path | None, as_json: bool) -> None:
    """Put the results of all shares of an evaluation (`abs eval --shard`) together.

    The records are those that one run over all images would have written; everything is computed anew from the
    predictions of each image. A share that is missing, appears twice, or is of another run than the others is refused.
    Of a folder that was given as --results, the newest run counts.

    \b
    abs results merge shares/1 shares/2 shares/3 --out merged
    """
    from abs_classify.evaluation.result_merging import merge_results
    from abs_classify.evaluation.tables import tables_text

    records = merge_results(places, out, results=results or home.results, command=sys.argv)
    if as_json:
        click.echo(json_text({"results": [record.model_dump(mode="json") for record in records]}))
    else:
        click.echo(tables_text(records))
    note(f"results: {counted(len(records), 'file', 'files')} in {next(iter(records.folders.values()))}")


@command.command("compare")
@click.argument("first", metavar="FIRST", shell_complete=complete_run)
@click.argument("second", metavar="SECOND", shell_complete=complete_run)
@_RESULTS
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all digits.")
@click.pass_obj
def compare_runs(home: Home, first: str, second: str, results: Path | None, as_json: bool) -> None:
    """Compare two runs on the same images, method by method: paired differences with intervals and exact p-values.

    FIRST and SECOND are runs, the last of which is also called last, result files, or folders of these. Two methods of
    one run stand beside each other in `abs results show RUN`.

    Where both runs cross models or bundles, results of the same model and bundle are paired. Two files are compared
    whatever their methods.
    """
    from abs_classify.evaluation.comparison import compare, comparison_text
    from abs_classify.evaluation.results_folder import ResultsFolder

    folder = ResultsFolder(results or home.results)
    comparisons = compare(folder.read([first]), folder.read([second]))
    if as_json:
        click.echo(json_text({"comparisons": [comparison.to_dict() for comparison in comparisons]}))
    else:
        click.echo(comparison_text(comparisons))
