"""``abs models check``: whether a model gives the numbers that others publish."""

from __future__ import annotations

import time
from typing import Any

import click

from abs_cli.completion_values import complete_methods, complete_model, complete_templates
from abs_cli.console import note_work, progress
from abs_cli.exit_codes import ExitCode
from abs_cli.options import (
    choose_label_space,
    class_options,
    compute_options,
    dataset_option,
    limit_options,
    open_feature_store,
    unreadable_options,
)
from abs_core.home import Home
from abs_core.text import json_text

__all__ = ["command"]


def _names(_context: click.Context, _parameter: click.Parameter, text: str | None) -> list[str]:
    from abs_classify.methods.parameters import split_names

    return split_names(text) if text else []


@click.command("check")
@click.argument("model", shell_complete=complete_model)
@dataset_option(required=True)
@class_options
@click.option(
    "--methods",
    metavar="M1,M2,...",
    callback=_names,
    help="Methods; see `abs methods`.  [default: clip,clip-e; with --bundle also cupl,wca,abs]",
    shell_complete=complete_methods,
)
@click.option(
    "--templates",
    metavar="SET",
    help="Template set of clip-e: the id of a shipped set, or a YAML file.  [default: that of the published numbers]",
    shell_complete=complete_templates,
)
@click.option(
    "--published-as",
    metavar="NAME",
    help="Published weights that MODEL has under another name.  [default: MODEL]",
    shell_complete=complete_model,
)
@limit_options
@unreadable_options()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@compute_options
@click.pass_obj
def command(
    home: Home, /, model: str, dataset: str, bundle: str | None, labels: str | None, as_json: bool, **options: Any
) -> None:
    """Run MODEL on a published data set, and compare with the published numbers.

    Prints measured beside published numbers with 95 % intervals and a verdict: agrees, differs (and the likely causes),
    or no published number (and the nearest). Exit code 1 if a number differs. See docs/reproduce.md.

    \b
    abs models check ViT-B-32-quickgelu/openai --dataset dtd:./dtd
    abs models check ViT-B-16-quickgelu/openai --dataset pets:./pets --bundle cupl-pets
    """
    from abs_classify import check_model
    from abs_classify.models.store import WeightsStore

    start = time.monotonic()
    has_classes = bundle is not None or labels is not None
    checked = check_model(
        dataset,
        model,
        descriptions=choose_label_space(home, bundle, labels) if has_classes else None,
        weights=WeightsStore(home.models),
        cache=open_feature_store(home),
        progress=progress,
        **options,
    )
    click.echo(json_text(checked.to_dict()) if as_json else str(checked))
    note_work(checked.work, time.monotonic() - start)
    if checked.differs:
        raise click.exceptions.Exit(ExitCode.FINDING)
