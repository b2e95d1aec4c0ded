"""``abs attribute``: which share of a gain comes from guided views, from descriptions and from soft matching."""

from __future__ import annotations

import time
from typing import Any

import click

from abs_cli.completion_values import complete_bundle, complete_method, complete_templates
from abs_cli.console import note_work, progress
from abs_cli.options import (
    choose_label_space,
    dataset_option,
    fixed_views_option,
    limit_options,
    model_options,
    open_feature_store,
    seeds_option,
    unreadable_options,
)
from abs_core.home import Home
from abs_core.text import json_text

__all__ = ["command"]


@click.command("attribute")
@dataset_option(required=True)
@click.option(
    "--bundle",
    required=True,
    metavar="REF",
    help="Descriptions of the classes: NAME, NAME@VERSION, NAME@VERSION#sha256:... or a file.",
    shell_complete=complete_bundle,
)
@click.option(
    "--method",
    default="abs",
    show_default=True,
    metavar="NAME",
    help="Method with guided views, descriptions and soft matching: abs, abs-pixels, abs-features or abs-aligned.",
    shell_complete=complete_method,
)
@fixed_views_option
@click.option(
    "--templates",
    metavar="SET",
    help="Several texts of each class name instead of one: the id of a shipped template set, or a YAML file.  "
    '[default: "a photo of a {class}." alone]',
    shell_complete=complete_templates,
)
@limit_options
@seeds_option
@unreadable_options()
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "json"]),
    default="text",
    show_default=True,
    help="What to print.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json, with all digits.")
@model_options
@click.pass_obj
def command(home: Home, /, dataset: str, bundle: str, form: str, **settings: Any) -> None:
    """Say which share of a gain comes from guided views, which from descriptions and which from soft matching.

    The same images are classified in all 2 x 2 x 2 ways: views guided or random, texts descriptions or class names,
    matching soft or mean; and with descriptions that are shuffled, swapped between classes, or random words. Everything
    is paired by image and seed. Where the total gain is not clear, no share is claimed.

    \b
    abs attribute --dataset imagefolder:./val --bundle birds
    abs attribute --dataset csv:val.csv --bundle birds --seeds 5 --json
    """
    from abs_classify import attribute_gain
    from abs_classify.models.store import WeightsStore

    start = time.monotonic()
    results = attribute_gain(
        choose_label_space(home, bundle, None),
        dataset,
        weights=WeightsStore(home.models),
        cache=open_feature_store(home),
        progress=progress,
        **settings,
    )
    if form == "json":
        click.echo(json_text(results.to_dict()))
    else:
        click.echo(results.to_markdown() if form == "markdown" else str(results), nl=form != "markdown")
    note_work(results.work, time.monotonic() - start)
