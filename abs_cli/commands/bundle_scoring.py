"""``abs bundle score``: what each sentence and each class of a bundle wins and costs on images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from abs_cli.completion_values import complete_bundle, complete_images, complete_method
from abs_cli.console import note, note_work, progress
from abs_cli.options import (
    ModelOptions,
    choose_label_space,
    dataset_option,
    fixed_views_option,
    limit_options,
    model_options,
    open_feature_store,
    unreadable_options,
)
from abs_core.home import Home
from abs_core.text import json_text

__all__ = ["score_command"]


@click.command("score")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@dataset_option()
@click.option(
    "--images",
    shell_complete=complete_images,
    metavar="DIR|SPEC",
    help="Images without labels, in place of --dataset: usage and confusion, no gains.",
)
@click.option(
    "--method",
    default="abs",
    show_default=True,
    metavar="NAME",
    help="Method that matches images with sentences; see `abs methods`.",
    shell_complete=complete_method,
)
@fixed_views_option
@limit_options
@unreadable_options("Stop at an image that cannot be read, or skip it.")
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    metavar="N",
    help="Maximum number of images to keep beside the sentences, as small pictures.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write index.html, scores.json and scores.csv into this folder.",
)
@click.option(
    "--export-csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a CSV file with one row for each sentence.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON, not tables.")
@model_options
@click.pass_obj
def score_command(
    home: Home, /, reference: str, out: Path | None, csv_file: Path | None, as_json: bool, **settings: Any
) -> None:
    """Say which sentences of BUNDLE help and which hurt: images are classified with each of them and without it.

    Nothing is encoded twice: with the features in the cache this takes about as long as to classify the images. The
    scores are kept for `abs bundle review`, too.

    \b
    abs bundle score birds --dataset imagefolder:./val --out scores/
    abs bundle score birds --images photos/
    """
    from abs_classify import score_bundle
    from abs_classify.encoding.work import WorkCounts
    from abs_classify.evaluation.bundle_tables import scores_csv, scores_text
    from abs_classify.report.score_page import write_score_page
    from abs_core.bundle_scores import BundleScores
    from abs_core.files import atomic_write, ensure_writable

    start = time.monotonic()
    work = WorkCounts()
    model = ModelOptions.taken_from(settings)
    space = choose_label_space(home, reference, None)
    kept = BundleScores.path_in(home.scores, space.source)
    for folder in (kept.parent, *([] if out is None else [out]), *([] if csv_file is None else [csv_file.parent])):
        ensure_writable(folder)  # before the work
    scores = score_bundle(
        space,
        model=model.stages(home).models,
        seed=model.seed,
        batch_size=model.batch_size,
        cache=open_feature_store(home),
        work=work,
        progress=progress,
        **settings,
    )
    scores.write(kept)
    tables = [csv_file] if csv_file is not None else []
    if out is not None:
        scores.write(out / "scores.json")
        write_score_page(scores, out / "index.html")
        tables.append(out / "scores.csv")
    for path in tables:
        with atomic_write(path) as stream:
            stream.write(scores_csv(scores).encode("utf-8"))
    click.echo(json_text(scores.model_dump(mode="json")) if as_json else scores_text(scores))
    note(f"scores: {' and '.join(str(path) for path in (kept, csv_file, out) if path is not None)}")
    note_work(work, time.monotonic() - start)
