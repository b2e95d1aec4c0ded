"""``abs eval``: labelled data sets x models x bundles x methods, tables, and a result file for each."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.completion_values import (
    complete_bundle,
    complete_control,
    complete_dataset,
    complete_labels,
    complete_methods,
    complete_model,
    complete_templates,
)
from abs_cli.console import note_work, progress
from abs_cli.engine_options import engine_options
from abs_cli.options import (
    RenamedOption,
    budget_options,
    choose_label_space,
    compute_options,
    limit_options,
    open_feature_store,
    report_images_option,
    seeds_option,
    shard_option,
    unreadable_options,
    views_options,
)
from abs_core.home import Home
from abs_core.text import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abs_core.descriptions import LabelSpace

__all__ = ["command"]

_PATH = click.Path(dir_okay=False, path_type=Path)


def _names(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    """``clip, abs(views=10, temperature=0.05)`` as a list of two."""
    from abs_classify.methods.parameters import split_names

    return split_names(text)


@click.command("eval")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    required=True,
    metavar="SPEC",
    help="Data set: demo, imagefolder:DIR, csv:FILE, dtd:DIR, ...; see `abs datasets ls`. May be repeated.",
    shell_complete=complete_dataset,
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=("embedded",),
    show_default=True,
    metavar="NAME",
    help="Image-text model; see `abs models`. May be repeated.",
    shell_complete=complete_model,
)
@click.option(
    "--bundle",
    "bundles",
    multiple=True,
    metavar="REF",
    help="Descriptions of the candidate classes: NAME, NAME@VERSION, NAME@VERSION#sha256:... or a file. "
    "May be repeated.",
    shell_complete=complete_bundle,
)
@click.option(
    "--labels",
    metavar="LABELS",
    help="Candidate classes without descriptions: 'cat,dog,car', a label file, or a shipped label set.",
    shell_complete=complete_labels,
)
@click.option(
    "--methods",
    cls=RenamedOption,
    former=["--method"],
    default="clip,cupl,wca,abs",
    show_default=True,
    metavar="M1,M2,...",
    callback=_names,
    help="Methods to compare, with parameters as in 'clip,abs(views=10,temperature=0.05)'; see `abs methods`.",
    shell_complete=complete_methods,
)
@views_options
@budget_options
@click.option(
    "--templates",
    default="plain",
    show_default=True,
    metavar="SET",
    help="Template set of clip-e: the id of a shipped set, or a YAML file.",
    shell_complete=complete_templates,
)
@click.option(
    "--control",
    metavar="NAME",
    help="Change the descriptions: shuffle, swap, waffle or classname-only.",
    shell_complete=complete_control,
)
@limit_options
@seeds_option
@unreadable_options(
    "Stop at an image that cannot be read, and at a bundle that does not fit a data set; or skip and name it."
)
@shard_option
@click.option(
    "--stream-order",
    type=click.Choice(["shuffled", "dataset"]),
    default="shuffled",
    show_default=True,
    help="How stream methods such as tda see the images: in an order that each seed draws, or as they are listed.",
)
@click.option(
    "--results",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for result files.  [default: results/ in --home]",
)
@click.option("--predictions", type=_PATH, help="Write the predictions of each image to a .jsonl or .parquet file.")
@click.option("--texts", type=_PATH, help="Write all encoded class texts, with digests, to a .jsonl file.")
@click.option(
    "--save-calibration",
    type=_PATH,
    help="Write how surely each image keeps the label of all its views, for --views adaptive --stopping calibrated.",
)
@click.option("--export-csv", type=_PATH, help="Write a CSV file with one row for each result.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write an HTML page: a file, or a folder for index.html; for several combinations a folder of pages.",
)
@report_images_option(60)
@click.option("--json", "as_json", is_flag=True, help="Print the result records as JSON, not tables.")
@compute_options
@engine_options
@click.pass_obj
def command(
    home: Home,
    /,
    bundles: tuple[str, ...],
    labels: str | None,
    results: Path | None,
    predictions: Path | None,
    texts: Path | None,
    save_calibration: Path | None,
    export_csv: Path | None,
    report: Path | None,
    report_images: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Classify labelled data sets with several methods, models and bundles, and print tables.

    Every stage is cached: the same command again costs seconds, another method or bundle only what it adds. Every
    result is kept in a file of its own; see `abs results`.

    \b
    abs eval --dataset imagefolder:./val --bundle birds --methods clip,cupl,wca,abs
    abs eval --dataset csv:photos.csv --labels classes.txt --report out/
    abs eval --dataset pets:./pets --dataset dtd:./dtd --bundle pets --bundle textures --on-error skip
    """
    from abs_classify import evaluate
    from abs_classify.models.store import WeightsStore
    from abs_classify.report.contents import EvaluationFiles

    start = time.monotonic()
    with EvaluationFiles(
        predictions=predictions,
        texts=texts,
        table=export_csv,
        calibration=save_calibration,
        report=report,
        report_images=report_images,
        command=sys.argv,
    ) as files:
        evaluated = evaluate(
            descriptions=_label_spaces(home, bundles, labels),
            cache=open_feature_store(home),
            weights=WeightsStore(home.models),
            results=results or home.results,
            command=sys.argv,
            progress=progress,
            observer=files,
            **settings,
        )
    # after all files: the reader of the tables may have left
    click.echo(json_text(evaluated.to_dict()) if as_json else str(evaluated))
    note_work(evaluated.work, time.monotonic() - start)


def _label_spaces(home: Home, bundles: Sequence[str], labels: str | None) -> list[LabelSpace]:
    """The label space of each bundle, or that of the labels; none where those of each data set are meant."""
    if bundles or labels is not None:
        return [choose_label_space(home, bundle, labels) for bundle in dict.fromkeys(bundles or (None,))]
    return []
