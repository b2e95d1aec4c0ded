"""``abs classify``: images in, classes out, and why."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.completion_values import complete_method, complete_templates
from abs_cli.console import note, note_work, progress
from abs_cli.options import (
    ModelOptions,
    choose_label_space,
    class_options,
    model_options,
    truncated_option,
    views_options,
)
from abs_core.errors import ImageError, StorageError
from abs_core.files import is_folder, storage_errors
from abs_core.home import Home
from abs_core.text import json_text, printable

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier, Prediction
    from abs_classify.encoding.samples import OnError, SkippedImage

__all__ = ["command"]

_SENTENCES = 3
_EXPLAINED = 5


@click.command("classify")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@class_options
@click.option(
    "--method",
    default="abs",
    show_default=True,
    metavar="NAME",
    help="Method; see `abs methods`.",
    shell_complete=complete_method,
)
@views_options
@click.option(
    "--templates",
    default="plain",
    show_default=True,
    metavar="SET",
    help="Template set of clip-e: the id of a shipped set, or a YAML file.",
    shell_complete=complete_templates,
)
@click.option(
    "--top", type=click.IntRange(1, 5), default=3, show_default=True, help="Number of classes to show for each image."
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Stop at an image that cannot be read, or skip it.",
)
@truncated_option
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write an HTML page: a file, or a folder for index.html."
)
@click.option(
    "--png",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write an explanation of each image as a PNG file into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per image.")
@model_options
@click.pass_obj
def command(
    home: Home,
    /,
    images: tuple[Path, ...],
    bundle: str | None,
    labels: str | None,
    method: str,
    views: Any,
    templates: str,
    top: int,
    on_error: Any,
    truncated: Any,
    report: Path | None,
    png: Path | None,
    as_json: bool,
    **model: Any,
) -> None:
    """Classify images: the best classes of each, and the sentences that decided.

    Scores can be compared within one image and one set of classes only: another class changes those of the others.

    \b
    abs classify photo.jpg --bundle birds
    abs classify *.jpg --labels "cat,dog,car" --json
    """
    start = time.monotonic()
    label_space = choose_label_space(home, bundle, labels)
    _check_paths(images, on_error)
    classifier = ModelOptions(**model).classifier(home, label_space, method=method, views=views, templates=templates)
    run = classifier.classify(
        list(images),
        top=top,
        explain=not classifier.method.stream,
        on_error=on_error,
        truncated=truncated,
        progress=progress,
    )
    predictions = list(run)
    if not predictions:
        raise _none_readable()
    for line in (_json_lines if as_json else _text_lines)(classifier, predictions):
        click.echo(line)
    for skipped in run.skipped:
        note(f"skipped {skipped.name}: {skipped.reason}")
    for remark in (*run.remarks, *classifier.notes):
        note(f"note: {remark}")
    _write_pages(classifier, predictions, run.skipped, report, png)
    note_work(run.work, time.monotonic() - start)


def _write_pages(
    classifier: Classifier,
    predictions: Sequence[Prediction],
    skipped: Sequence[SkippedImage],
    report: Path | None,
    png: Path | None,
) -> None:
    """Write the page and the pictures that are wanted, and say where they are."""
    if report is None and png is None:
        return
    from abs_classify.report.contents import write_classification_report, write_explanation_pictures

    if report is not None:
        page = write_classification_report(classifier, predictions, report, skipped=skipped, command=sys.argv)
        note(f"report: {page}")
    if png is not None:
        note(f"pictures: {write_explanation_pictures(classifier, predictions, png)} in {png}")


def _check_paths(paths: Sequence[Path], on_error: OnError) -> None:
    """Find a wrong path before anything is loaded.

    Raises:
        ImageError: a path is a folder; or a file is not there and ``on_error`` is "stop", or none of them is.
    """
    from abs_classify.encoding.samples import stopping_error

    missing = 0
    for path in paths:
        if is_folder(path):
            raise ImageError(f"{str(path)!r} is a folder", remedy="Name the images in it, as in FOLDER/*.jpg")
        try:
            with storage_errors(path, "read"):
                path.stat()
        except StorageError as error:
            if on_error == "stop":
                raise stopping_error(error) from error
            missing += 1
    if missing == len(paths):
        raise _none_readable()


def _none_readable() -> ImageError:
    return ImageError("none of the images could be read", remedy="See the reasons with --on-error stop")


def _text_lines(classifier: Classifier, predictions: Sequence[Prediction]) -> Iterator[str]:
    """For a terminal: where the classes are from; then each image, its best classes, the sentences that decided."""
    yield printable(f"classes from {classifier.label_space.source}")
    for prediction in predictions:
        yield printable(prediction.image_name)
        for ranked in prediction.ranking:
            yield f"  {ranked.score:>10.4g}  {printable(ranked.name)}"
        why = prediction.explanation
        if why is None or why.runner_up is None:
            continue
        yield f"  why {printable(why.winner.name)}, not {printable(why.runner_up.name)}:"
        if why.note:
            yield f"    {why.note}"
        for sentence in why.sentences[:_SENTENCES]:
            yield f"    {sentence.contribution:>+10.4g}  {printable(sentence.text)}"


def _json_lines(classifier: Classifier, predictions: Sequence[Prediction]) -> Iterator[str]:
    """One JSON text for each image."""
    for prediction in predictions:
        why = prediction.explanation
        row: dict[str, Any] = {
            "path": prediction.image_name,
            "image": prediction.image_id,
            "method": classifier.method.name,
            "classes_from": classifier.label_space.source,
            "model": classifier.stages.models.label,
            "ranking": [
                {"class": ranked.class_id, "name": ranked.name, "score": ranked.score} for ranked in prediction.ranking
            ],
            "views": prediction.views,
            "remarks": list(prediction.remarks),
            "explanation": why.to_dict(top=_EXPLAINED) if why is not None else None,
        }
        yield json_text(row)
