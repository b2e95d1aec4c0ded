"""``abs classify``: photos in, classes out, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from abs_cli.console import note, progress
from abs_cli.options import ModelOptions, choose_label_space, class_options, model_options
from abs_core.errors import ImageError
from abs_core.files import is_folder
from abs_core.home import Home

__all__ = ["command"]


@click.command("classify")
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PHOTO...")
@class_options
@click.option("--method", default="abs", show_default=True, help="A row of the table; see `abs methods`.")
@click.option(
    "--views", type=click.IntRange(min=1), metavar="N", help="Views of each kind.  [default: the method's own]"
)
@click.option(
    "--templates", default="plain", show_default=True, help="Template set for clip-e: a shipped id or a file."
)
@click.option("--top", type=click.IntRange(1, 5), default=3, show_default=True, help="Classes to show of each photo.")
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What a photo that cannot be read does to the rest.",
)
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write an HTML page: a file, or a folder for index.html."
)
@click.option(
    "--png", type=click.Path(file_okay=False, path_type=Path), help="Write one explanation picture per photo here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per photo.")
@model_options
@click.pass_obj
def command(
    home: Home,
    /,
    photos: tuple[Path, ...],
    bundle: str | None,
    labels: str | None,
    method: str,
    views: int | None,
    templates: str,
    top: int,
    on_error: Any,
    report: Path | None,
    png: Path | None,
    as_json: bool,
    **model: Any,
) -> None:
    """Classify photos: the best classes of each, and the sentences that decided.

    \b
    abs classify photo.jpg --bundle birds
    abs classify *.jpg --labels "cat,dog,car" --json
    """
    from abs_classify.methods.plan import plan_methods
    from abs_classify.predictions import classify_images

    stages = ModelOptions(**model).stages(home)
    vocabulary = choose_label_space(home, bundle, labels, None)
    plan = plan_methods([method], vocabulary, views, templates, None, stages.seed)
    stages.models = stages.models.for_methods(plan.methods)
    for photo in photos:
        if is_folder(photo):
            raise ImageError(f"{str(photo)!r} is a folder", remedy="Name the photos in it, as in FOLDER/*.jpg")
    with progress("classifying", len(photos), "images") as advance:
        answers = classify_images(stages, list(photos), vocabulary, plan, on_error, advance)
    for line in answers.json_lines(top) if as_json else answers.text_lines(top):
        click.echo(line)
    for one in answers.scored.skipped:
        note(f"skipped {one.name}: {one.reason}")
    for remark in answers.notes():
        note(f"note: {remark}")
    if report is not None:
        note(f"report: {answers.write_report(report, sys.argv)}")
    if png is not None:
        note(f"pictures: {answers.write_pictures(png)} in {png}")
