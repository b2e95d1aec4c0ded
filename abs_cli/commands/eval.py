"""``abs eval``: a labelled data set, several methods, one table."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.console import json_text, note, progress
from abs_cli.home import Home
from abs_cli.options import ModelOptions, class_options, model_options
from abs_core.errors import DatasetError

if TYPE_CHECKING:
    from abs_cli.evaluating import Evaluation

__all__ = ["command"]


@click.command("eval")
@click.option(
    "--dataset",
    required=True,
    metavar="SPEC",
    help="demo, imagefolder:DIR, csv:FILE, dtd:ROOT, ...; see `abs datasets ls`.",
)
@class_options
@click.option(
    "--methods",
    "--method",
    default="clip,cupl,wca,abs",
    show_default=True,
    metavar="M1,M2,...",
    help="Rows of the table; see `abs methods`.",
)
@click.option(
    "--views", type=click.IntRange(min=1), metavar="N", help="Views of each kind.  [default: the method's own]"
)
@click.option(
    "--templates", default="plain", show_default=True, help="Template set for clip-e: a shipped id or a file."
)
@click.option("--control", metavar="NAME", help="Change the descriptions: shuffle, swap, waffle or classname-only.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What an image that cannot be read does to the run; skipped ones are counted and named.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write an HTML page: a file, or a folder for index.html."
)
@click.option("--report-photos", type=click.IntRange(min=0), default=60, show_default=True, help="Photos on the page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@model_options
@click.pass_obj
def command(
    home: Home,
    /,
    dataset: str,
    bundle: str | None,
    labels: str | None,
    methods: str,
    views: int | None,
    templates: str,
    control: str | None,
    limit: int | None,
    on_error: Any,
    report: Path | None,
    report_photos: int,
    as_json: bool,
    **model: Any,
) -> None:
    """Classify a labelled data set with several methods and print one table.

    Every stage is cached: the same command again costs seconds, another method only what it adds.

    \b
    abs eval --dataset imagefolder:./val --bundle birds --methods clip,cupl,wca,abs
    abs eval --dataset csv:photos.csv --labels classes.txt --report out/
    """
    from abs_classify.datasets import open_dataset
    from abs_cli.evaluating import evaluate_dataset, plan_methods
    from abs_cli.runlog import write_last_run
    from abs_cli.vocabulary import choose_vocabulary

    start = time.monotonic()
    stages = ModelOptions(**model).stages(home)
    data = open_dataset(dataset)
    vocabulary = choose_vocabulary(home, bundle, labels, data)
    plans = plan_methods(
        [name.strip() for name in methods.split(",") if name.strip()],
        vocabulary,
        views,
        templates,
        control,
        stages.seed,
    )
    if not data.items:
        raise DatasetError(f"the data set {data.name} has no images", remedy="Check its folder")
    items = data.items[:limit]
    with progress("classifying", len(items), "images") as advance:
        evaluation = evaluate_dataset(stages, data, items, vocabulary, plans, on_error, advance)
    evaluation.seconds = time.monotonic() - start
    write_last_run(stages.cache.root, stages.cache.asked)
    if as_json:
        click.echo(json_text(evaluation.to_dict(sys.argv)))
    else:
        click.echo(evaluation.text())
    if report is not None:
        _write_report(evaluation, report, report_photos)
    _say_where_it_came_from(evaluation)


def _write_report(evaluation: Evaluation, report: Path, photos: int) -> None:
    from abs_classify.report import write_report
    from abs_cli.reporting import evaluation_page

    path = report if report.suffix.lower() in (".html", ".htm") else report / "index.html"
    write_report(evaluation_page(evaluation, photos, sys.argv), path)
    note(f"report: {path}")


def _say_where_it_came_from(evaluation: Evaluation) -> None:
    cache = evaluation.stages.cache
    computed = {stage: count for stage, count in cache.misses.items() if count}
    seconds = f"{evaluation.seconds:.1f} s"
    if not computed:
        note(f"everything came from the cache ({sum(cache.hits.values())} entries), {seconds}")
        return
    parts = ", ".join(f"{stage} {count} of {count + cache.hits.get(stage, 0)}" for stage, count in computed.items())
    note(f"computed: {parts}; the rest came from the cache; {seconds}")
