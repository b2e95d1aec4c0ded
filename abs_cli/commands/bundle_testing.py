"""``abs bundle test``: what the change from one version of a bundle to another wins and loses on labelled images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from abs_cli.completion_values import complete_bundle, complete_method
from abs_cli.console import note, note_work, progress
from abs_cli.exit_codes import ExitCode
from abs_cli.options import (
    choose_label_space,
    dataset_option,
    fixed_views_option,
    limit_options,
    model_options,
    open_feature_store,
    unreadable_options,
)
from abs_core.errors import UsageError
from abs_core.files import atomic_write
from abs_core.home import Home
from abs_core.text import json_text

__all__ = ["command"]


@click.command("test")
@click.argument("old", metavar="OLD", shell_complete=complete_bundle)
@click.argument("new", metavar="NEW", shell_complete=complete_bundle)
@dataset_option(required=True)
@click.option(
    "--min-gain",
    type=float,
    metavar="X",
    help="Fail unless the lower end of the gain's 95 % interval is X points of top-1 or more.",
)
@click.option(
    "--max-loss",
    type=float,
    metavar="Y",
    help="Fail unless the lower end of the gain's 95 % interval is -Y points of top-1 or more.",
)
@click.option(
    "--method",
    default="abs",
    show_default=True,
    metavar="NAME",
    help="Method that uses descriptions; see `abs methods`.",
    shell_complete=complete_method,
)
@fixed_views_option
@click.option(
    "--single-changes",
    "undo",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    metavar="N",
    help="Undo up to N changes alone to see what each is worth: first all of a class, then single sentences.",
)
@limit_options
@unreadable_options()
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Write a summary for a merge request; - prints it instead of the tables.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all classes and sentences, not tables.")
@model_options
@click.pass_obj
def command(
    home: Home, /, old: str, new: str, dataset: str, markdown: Path | None, as_json: bool, **settings: Any
) -> None:
    """Test what the change from OLD to NEW wins and loses on labelled images, by class and by sentence.

    Both versions classify the same images with the same views, so everything is paired by image. Without --min-gain
    and --max-loss the test fails if the 95 % interval of the gain lies below 0.

    Exit codes: 0 passed or nothing changed, 1 failed, 2 wrong input.

    \b
    abs bundle test birds@1.0.0 birds@1.1.0 --dataset imagefolder:./val
    abs bundle test birds@1.0.0 birds@1.1.0 --dataset csv:val.csv --max-loss 0.5 --markdown summary.md
    """
    from abs_classify import compare_bundles
    from abs_classify.models.store import WeightsStore

    prints_markdown = markdown is not None and str(markdown) == "-"
    if prints_markdown and as_json:
        raise UsageError("--json and --markdown - both print", remedy="Give --markdown a file")
    start = time.monotonic()
    comparison = compare_bundles(
        choose_label_space(home, old, None),
        choose_label_space(home, new, None),
        dataset,
        weights=WeightsStore(home.models),
        cache=open_feature_store(home),
        progress=progress,
        **settings,
    )
    if prints_markdown:
        click.echo(comparison.to_markdown(), nl=False)
    else:
        click.echo(json_text(comparison.to_dict()) if as_json else str(comparison))
        # after the output: the numbers are not lost where the file cannot be written
        if markdown is not None:
            with atomic_write(markdown) as stream:
                stream.write(comparison.to_markdown().encode())
    if comparison.gain is not None:
        note_work(comparison.work, time.monotonic() - start)
    if not comparison.passed:
        note(comparison.verdict)
        raise click.exceptions.Exit(ExitCode.FINDING)
