"""``abs robustness``: how far results can be trusted where classes, their order, or the images are others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from abs_cli.completion_values import (
    complete_bundle,
    complete_dataset,
    complete_labels,
    complete_methods,
    complete_templates,
)
from abs_cli.console import note, note_work, progress
from abs_cli.options import (
    choose_label_space,
    class_options,
    fixed_views_option,
    model_options,
    open_feature_store,
    truncated_option,
)
from abs_core.extras import require
from abs_core.home import Home
from abs_core.text import counted, json_text

__all__ = ["command"]


def _names(_context: click.Context, _parameter: click.Parameter, text: str) -> list[str]:
    from abs_classify.methods.parameters import split_names

    return split_names(text)


def _counts(_context: click.Context, parameter: click.Parameter, text: str | None) -> list[int]:
    """``10,100`` as a list of two."""
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise click.BadParameter(f"must be whole numbers, as in 10,100, got {text!r}", param=parameter) from None


@click.command("robustness")
@click.option(
    "--dataset",
    required=True,
    metavar="SPEC",
    help="Labelled images: demo, imagefolder:DIR, csv:FILE, dtd:DIR, ...; see `abs datasets ls`.",
    shell_complete=complete_dataset,
)
@class_options
@click.option(
    "--methods",
    default="clip,cupl,wca,abs",
    show_default=True,
    metavar="M1,M2,...",
    callback=_names,
    help="Methods, with parameters as in 'clip,abs(views=10,temperature=0.05)'; see `abs methods`.",
    shell_complete=complete_methods,
)
@fixed_views_option
@click.option(
    "--templates",
    default="plain",
    show_default=True,
    metavar="SET",
    help="Template set of clip-e: the id of a shipped set, or a YAML file.",
    shell_complete=complete_templates,
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="How often classes are hidden, reordered, added or left without images, and streams shuffled.",
)
@click.option(
    "--hidden", type=float, default=0.5, show_default=True, metavar="SHARE", help="Share of the classes that is hidden."
)
@click.option(
    "--present",
    type=float,
    default=0.25,
    show_default=True,
    metavar="SHARE",
    help="Share of the classes that have images where few have.",
)
@click.option(
    "--imbalance",
    type=float,
    default=10.0,
    show_default=True,
    metavar="FACTOR",
    help="Images of the largest class over those of the smallest, in the long tail.",
)
@click.option(
    "--add-labels",
    metavar="LABELS",
    help="Classes to add that no image shows: 'cat,dog,car', a label file, or a shipped label set.",
    shell_complete=complete_labels,
)
@click.option(
    "--add-bundle",
    metavar="REF",
    help="The same with descriptions: a bundle.",
    shell_complete=complete_bundle,
)
@click.option(
    "--add-counts",
    metavar="N1,N2,...",
    callback=_counts,
    help="How many of them to add.  [default: 10, 100, 1000, ... and all]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only the first N images.")
@click.option(
    "--stratified", is_flag=True, help="With --limit: sample the N images at random; each class keeps its share."
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Stop at an image that cannot be read; or skip and name it.",
)
@truncated_option
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write reliability diagrams as PNG and PDF; needs the extra plots.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "latex", "csv", "json"]),
    default="text",
    show_default=True,
    help="What to print; CSV and JSON have all digits.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@model_options
@click.pass_obj
def command(
    home: Home,
    /,
    dataset: str,
    bundle: str | None,
    labels: str | None,
    add_labels: str | None,
    add_bundle: str | None,
    figures: Path | None,
    form: str,
    **options: Any,
) -> None:
    """Measure calibration, unknown classes, and what the number and order of classes and images change.

    Every image is encoded once; each condition computes scores anew from the cache.

    \b
    abs robustness --dataset imagefolder:./val --bundle birds --methods clip,abs,tda
    abs robustness --dataset csv:val.csv --labels classes.txt --add-labels imagenet --figures out/
    """
    from abs_classify import RobustnessSettings, measure_robustness
    from abs_classify.evaluation.figures import write_reliability
    from abs_classify.models.store import WeightsStore

    start = time.monotonic()
    if figures is not None:
        require("matplotlib.figure", extra="plots", purpose="to draw figures")  # not after all the work
    has_added, has_classes = add_bundle is not None or add_labels is not None, bundle is not None or labels is not None
    names = ("draws", "hidden", "present", "imbalance")
    settings = RobustnessSettings(
        **{name: options.pop(name) for name in names},
        added=choose_label_space(home, add_bundle, add_labels) if has_added else None,
        added_counts=options.pop("add_counts"),
    )
    results = measure_robustness(
        dataset,
        options.pop("methods"),
        settings,
        descriptions=choose_label_space(home, bundle, labels) if has_classes else None,
        weights=WeightsStore(home.models),
        cache=open_feature_store(home),
        progress=progress,
        **options,
    )
    if figures is not None:
        paths = write_reliability(results.confidences, figures)
        note(f"{counted(len(paths), 'figure', 'figures')}: {figures}")
    click.echo(json_text(results.to_dict()) if form == "json" else results.to_text(form).rstrip("\n"))
    note_work(results.work, time.monotonic() - start)
