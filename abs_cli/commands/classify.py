"""``abs classify``: images in, classes out, and why."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    report_images_option,
    unreadable_options,
    views_options,
)
from abs_core.errors import ImageError
from abs_core.home import Home
from abs_core.text import json_text, printable, quoted

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier, Prediction
    from abs_classify.datasets.base import Sample
    from abs_classify.encoding.samples import OnError, SkippedImage
    from abs_core.remarks import Remark

__all__ = ["command"]

# from so many images on, another command serves better
_MANY = 200

# cells; a longer name of a class moves what is behind it in its row
_WIDEST = 40

_SENTENCES = 3
_EXPLAINED = 5


@click.command("classify")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=str), metavar="IMAGE...")
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
    "--top",
    metavar="N",
    type=click.IntRange(1, 5),
    default=3,
    show_default=True,
    help="Number of classes to show for each image.",
)
@unreadable_options()
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write an HTML page: a file, or a folder for index.html."
)
@report_images_option(400)
@click.option(
    "--png",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write an explanation of each image as a PNG file into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per image.")
@model_options
@click.pass_obj
def command(
    home: Home,
    /,
    images: tuple[str, ...],
    bundle: str | None,
    labels: str | None,
    method: str,
    views: Any,
    templates: str,
    top: int,
    on_error: Any,
    truncated: Any,
    report: Path | None,
    report_images: int,
    png: Path | None,
    as_json: bool,
    **model: Any,
) -> None:
    """Classify a few images: the best classes of each, and the sentences that decided.

    An IMAGE may also be a folder, or whatever else `abs label` takes. Confidence ranks images by how surely their best
    class is right, and is no probability. Scores can be compared within one image and one set of classes only.

    \b
    abs classify photo.jpg --bundle birds
    abs classify photos/ --labels "cat,dog,car" --report out/
    abs label photos/ --bundle birds --out labelled/      (for many images: a table, resumed and reviewed)
    """
    start = time.monotonic()
    label_space = choose_label_space(home, bundle, labels)
    listing = _list_images(images, on_error)
    if (count := len(listing.samples)) >= _MANY:
        note(f"hint: for {count} images, `abs label` writes a table as it goes, resumes, and opens a review page")
    classifier = ModelOptions(**model).classifier(home, label_space, method=method, views=views, templates=templates)
    run = classifier.classify(
        listing.samples,
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
    skipped = [*run.skipped, *listing.unreadable]
    for image in skipped:
        note(f"skipped {image.name}: {image.reason}", logging.WARNING)
    for remark in (*listing.remarks, *run.remarks, *classifier.notes):
        note(f"note: {remark}")
    _write_pages(classifier, predictions, skipped, report, report_images, png)
    note_work(run.work, time.monotonic() - start)


def _write_pages(
    classifier: Classifier,
    predictions: Sequence[Prediction],
    skipped: Sequence[SkippedImage],
    report: Path | None,
    pictures: int,
    png: Path | None,
) -> None:
    """Write the page and the pictures that are wanted, and say where they are."""
    if report is None and png is None:
        return
    from abs_classify.report.contents import write_classification_report, write_explanation_pictures

    if report is not None:
        page = write_classification_report(
            classifier, predictions, report, skipped=skipped, command=sys.argv, pictures=pictures
        )
        note(f"report: {page}")
    if png is not None:
        note(f"pictures: {write_explanation_pictures(classifier, predictions, png)} in {png}")


@dataclass(frozen=True)
class _ImageListing:
    """What the arguments name.

    Attributes:
        samples: the images to read, in order.
        unreadable: those that cannot be, as listing them showed.
        remarks: what was left out of folders, counted.
    """

    samples: Sequence[Sample]
    unreadable: Sequence[SkippedImage]
    remarks: Sequence[Remark]


def _list_images(places: Sequence[str], on_error: OnError) -> _ImageListing:
    """List the images, before anything is loaded.

    Raises:
        ImageError: an image cannot be read, and ``on_error`` is "stop" or all are like that.
        DatasetError: there are no images.
        UsageError: a source of images is not there, or cannot be one.
    """
    from abs_classify.encoding.samples import SkippedImage, stopping_error
    from abs_classify.labelling.sources import ImageSources

    sources = ImageSources(places, missing_ok=True)
    samples: list[Sample] = []
    unreadable: list[SkippedImage] = []
    for image in sources:
        if not image.problem:
            samples.append(image.sample())
            continue
        if on_error == "stop":
            problem = f"cannot classify {quoted(image.path, 300)}: {image.problem}"
            raise stopping_error(ImageError(problem, remedy="Check the file"))
        unreadable.append(SkippedImage(image.path, image.problem))
    if unreadable and not samples:
        raise _none_readable()
    if not samples:
        raise sources.no_images()
    return _ImageListing(samples, unreadable, sources.remarks.remarks)


def _none_readable() -> ImageError:
    return ImageError("none of the images could be read", remedy="See the reasons with --on-error stop")


def _text_lines(classifier: Classifier, predictions: Sequence[Prediction]) -> Iterator[str]:
    """For a terminal: where the classes are from; then of each image its best classes, and the sentences that decided.

    The row of a class names the image, so that ``grep`` and ``sort`` may take it out of its place.
    """
    from rich.cells import cell_len

    shown = {ranked.name for prediction in predictions for ranked in prediction.ranking}
    width = min(_WIDEST, max(cell_len(printable(name)) for name in ("class", *shown)))
    yield printable(f"classes from {classifier.label_space.source}")
    yield f"{'confidence':>10}  {'score':>10}  {'class':<{width}}  image"
    for prediction in predictions:
        for ranked in prediction.ranking:
            name = printable(ranked.name)
            padding = " " * (width - cell_len(name))
            figures = f"{ranked.confidence:>10.4f}  {ranked.score:>10.4g}"
            yield f"{figures}  {name}{padding}  {printable(prediction.image_name)}"
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
    run = {
        "method": classifier.method.name,
        "classes_from": classifier.label_space.source,
        "model": classifier.stages.models.label,
    }
    for prediction in predictions:
        row = prediction.to_dict(top=_EXPLAINED)
        yield json_text({"path": row["path"], "image": row["image"], **run, **row})
