"""``abs eval``: labelled data sets x models x bundles x methods, tables, and a result file for each."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from abs_cli.console import note, progress
from abs_cli.options import ModelOptions, choose_label_space, compute_options
from abs_core.errors import AbsError, UsageError
from abs_core.files import ensure_writable
from abs_core.home import Home
from abs_core.text import json_text

if TYPE_CHECKING:
    from abs_classify.encoding.cache import StageCache
    from abs_classify.encoding.stages import Stages
    from abs_classify.evaluation.export import TextListing
    from abs_classify.evaluation.job import Evaluation
    from abs_classify.evaluation.records import ResultRecord
    from abs_classify.evaluation.results_folder import ResultsFolder, Run
    from abs_classify.evaluation.sweep import Sweep

__all__ = ["command"]


F = TypeVar("F", bound=Callable[..., Any])


_PATH = click.Path(dir_okay=False, path_type=Path)


def _names(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    """``clip, abs`` as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _grid_options(function: F) -> F:
    """Add what is crossed."""
    for option in reversed(
        [
            click.option(
                "--dataset",
                "datasets",
                multiple=True,
                required=True,
                metavar="SPEC",
                help="demo, imagefolder:DIR, csv:FILE, dtd:ROOT, ...; see `abs datasets ls`. May be repeated.",
            ),
            click.option(
                "--model",
                "models",
                multiple=True,
                default=("embedded",),
                show_default=True,
                help="Image-text model; see `abs models`. May be repeated.",
            ),
            click.option(
                "--bundle",
                "bundles",
                multiple=True,
                metavar="REF",
                help="Descriptions: NAME, NAME@VERSION, NAME@VERSION#sha256:... or a file. May be repeated.",
            ),
            click.option(
                "--labels",
                metavar="NAMES",
                help="Class names without descriptions: 'cat,dog,car', a file, or a shipped set.",
            ),
            click.option(
                "--methods",
                "--method",
                default="clip,cupl,wca,abs",
                show_default=True,
                metavar="M1,M2,...",
                callback=_names,
                help="Rows of the table; see `abs methods`.",
            ),
        ]
    ):
        function = option(function)
    return function


def _choice_options(function: F) -> F:
    """Add what changes the images, views and texts."""
    for option in reversed(
        [
            click.option(
                "--views",
                type=click.IntRange(min=1),
                metavar="N",
                help="Views of each kind.  [default: the method's own]",
            ),
            click.option(
                "--templates",
                default="plain",
                show_default=True,
                help="Template set for clip-e: a shipped id or a file.",
            ),
            click.option(
                "--control", metavar="NAME", help="Change the descriptions: shuffle, swap, waffle or classname-only."
            ),
            click.option(
                "--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images of each data set."
            ),
            click.option("--stratified", is_flag=True, help="Draw the N images of --limit from every class."),
            click.option(
                "--seeds",
                type=click.IntRange(min=1),
                default=1,
                show_default=True,
                metavar="N",
                help="Draw the views N times, with the seeds from --seed on.",
            ),
            click.option(
                "--on-error",
                type=click.Choice(["stop", "skip"]),
                default="stop",
                show_default=True,
                help="What an image that cannot be read does to the run, and a bundle that does not fit a data set; "
                "skipped ones are counted and named.",
            ),
        ]
    ):
        function = option(function)
    return function


def _output_options(function: F) -> F:
    """Add where results go."""
    for option in reversed(
        [
            click.option(
                "--results",
                type=click.Path(file_okay=False, path_type=Path),
                help="Folder for result files.  [default: results/ in --home]",
            ),
            click.option(
                "--predictions", type=_PATH, help="Write what was predicted for each image: .jsonl or .parquet."
            ),
            click.option("--texts", type=_PATH, help="Write every text that was encoded, with digests: .jsonl."),
            click.option("--export-csv", type=_PATH, help="Write one row for each result."),
            click.option(
                "--report",
                type=click.Path(path_type=Path),
                help="Write an HTML page: a file, or a folder for index.html; for a grid a folder of pages.",
            ),
            click.option(
                "--report-photos",
                type=click.IntRange(min=0),
                default=60,
                show_default=True,
                help="Photos on a page.",
            ),
            click.option("--json", "as_json", is_flag=True, help="Print the result records as JSON, not tables."),
        ]
    ):
        function = option(function)
    return function


@dataclass(frozen=True)
class _Outputs:
    """Where results go."""

    results: Path | None
    predictions: Path | None
    texts: Path | None
    export_csv: Path | None
    report: Path | None
    report_photos: int
    as_json: bool


@click.command("eval")
@_grid_options
@_choice_options
@_output_options
@compute_options
@click.pass_obj
def command(home: Home, /, **given: Any) -> None:
    """Classify labelled data sets with several methods, models and bundles, and print tables.

    Every stage is cached: the same command again costs seconds, another method or bundle only what it adds. Every
    result is kept in a file of its own; see `abs results`.

    \b
    abs eval --dataset imagefolder:./val --bundle birds --methods clip,cupl,wca,abs
    abs eval --dataset csv:photos.csv --labels classes.txt --report out/
    abs eval --dataset pets:./pets --dataset dtd:./dtd --bundle pets --bundle textures --on-error skip
    """
    from abs_classify.evaluation.sweep import SweepRequest, plan_sweep

    request = SweepRequest(**_fields_of(SweepRequest, given))
    grid = plan_sweep(request, lambda bundle, dataset: choose_label_space(home, bundle, request.labels, dataset))
    options = ModelOptions(model="", **_fields_of(ModelOptions, given))
    _run(home, grid, options, _Outputs(**_fields_of(_Outputs, given)))


def _fields_of(kind: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that are fields of a dataclass."""
    return {field.name: given[field.name] for field in dataclasses.fields(kind) if field.name in given}


def _run(home: Home, grid: Sweep, options: ModelOptions, outputs: _Outputs) -> None:
    """Evaluate the grid, keep each result as soon as it is there, print the tables."""
    from abs_classify.encoding.cache import write_last_run
    from abs_classify.evaluation.export import Predictions, write_csv
    from abs_classify.evaluation.result_tables import tables_text
    from abs_classify.evaluation.sweep import run_sweep

    start = time.monotonic()
    keeper = _keeper(home, grid, outputs)
    for line in grid.left_out:
        note(f"left out: {line}")
    cache: list[StageCache] = []

    def stages_of(model: str) -> Stages:
        stages = dataclasses.replace(options, model=model).stages(home)
        cache.append(stages.cache)
        stages.cache = cache[0]  # one count of what was computed, over all models
        return stages

    try:
        with Predictions(outputs.predictions) if outputs.predictions else nullcontext() as predictions:
            run_sweep(grid, stages_of, keeper.keep, predictions.add if predictions else None, progress)
    except (AbsError, KeyboardInterrupt):
        keeper.say_what_is_kept()
        raise
    finally:
        if cache:
            write_last_run(cache[0])
    records = keeper.records
    if outputs.export_csv is not None:
        write_csv(outputs.export_csv, records)
        note(f"table: {outputs.export_csv}")
    if outputs.texts is not None:
        keeper.texts.write(outputs.texts)
        note(f"texts: {outputs.texts}")
    if outputs.predictions is not None:
        note(f"predictions: {outputs.predictions}")
    keeper.say_what_is_kept()
    # after all files: the reader of the tables may have left
    click.echo(
        json_text({"results": [record.model_dump(mode="json") for record in records], "left_out": list(grid.left_out)})
        if outputs.as_json
        else tables_text(records)
    )
    _say_where_it_came_from(cache[0], time.monotonic() - start)


def _keeper(home: Home, grid: Sweep, outputs: _Outputs) -> _Keeper:
    from abs_classify.evaluation.export import TextListing
    from abs_classify.evaluation.results_folder import ResultsFolder, Run, redacted

    if outputs.report is not None and _is_page(outputs.report) and grid.combinations > 1:
        raise UsageError(
            f"--report {str(outputs.report)!r} is one page, and there are {grid.combinations} combinations",
            remedy="Name a folder",
        )
    folder = ResultsFolder(outputs.results or home.results)
    folder.require_writable()
    for path in (outputs.export_csv, outputs.texts, outputs.report):
        if path is not None:
            ensure_writable(path if path is outputs.report and not _is_page(path) else path.parent)
    return _Keeper(folder, Run.now(), redacted(sys.argv), grid.combinations, outputs, TextListing())


@dataclass
class _Keeper:
    """Keeps each evaluation when it is done: result files, and its page."""

    folder: ResultsFolder
    run: Run
    command: Sequence[str]
    combinations: int
    outputs: _Outputs
    texts: TextListing
    records: list[ResultRecord] = field(default_factory=list)
    _pages: int = 0

    def keep(self, evaluation: Evaluation) -> None:
        """Write the result files of an evaluation, and its page if one is wanted."""
        from abs_classify.evaluation.recording import records_of

        records = records_of(evaluation, self.run, self.command)
        for record in records:
            self.folder.write(self.run, record)
        self.records += records
        if self.outputs.texts is not None:
            self.texts.add(evaluation)
        if self.outputs.report is not None:
            self._write_page(evaluation, records, self.outputs.report)

    def say_what_is_kept(self) -> None:
        """Where the result files are, if there are any."""
        if self.records:
            files = "1 file" if len(self.records) == 1 else f"{len(self.records)} files"
            note(f"results: {files} in {self.folder.root / self.run.id}")

    def _write_page(self, evaluation: Evaluation, records: Sequence[ResultRecord], report: Path) -> None:
        from abs_classify.report import write_report
        from abs_classify.report.contents import evaluation_page

        path = report if _is_page(report) else report / self._page_name(records[0])
        write_report(evaluation_page(evaluation, records, self.outputs.report_photos, sys.argv), path)
        note(f"report: {path}")

    def _page_name(self, record: ResultRecord) -> str:
        from abs_classify.evaluation.results_folder import file_stem

        if self.combinations == 1:
            return "index.html"
        self._pages += 1
        return f"{self._pages:02d}-{file_stem(record)}.html"


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in (".html", ".htm")


def _say_where_it_came_from(cache: StageCache, spent: float) -> None:
    computed = {stage: count for stage, count in cache.misses.items() if count}
    seconds = f"{spent:.1f} s"
    if not computed:
        note(f"everything came from the cache ({sum(cache.hits.values())} entries), {seconds}")
        return
    parts = ", ".join(f"{stage} {count} of {count + cache.hits.get(stage, 0)}" for stage, count in computed.items())
    note(f"computed: {parts}; the rest came from the cache; {seconds}")
