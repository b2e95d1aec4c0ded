"""``abs pareto``: what views buy on a labelled data set, as a table, a picture and a CSV file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from abs_cli.completion_values import complete_model
from abs_cli.console import note, progress
from abs_cli.options import (
    choose_label_space,
    class_options,
    compute_options,
    dataset_option,
    limit_options,
    open_feature_store,
    seeds_option,
)
from abs_core.extras import require_installed
from abs_core.home import Home
from abs_core.text import format_duration, json_text

__all__ = ["command"]


class _Numbers(click.ParamType[tuple[int | float, ...]]):
    """``1,2,5`` as a tuple of numbers."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int | float, ...]:
        """The numbers."""
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(self._kind(part) for part in value.split(","))
        except ValueError:
            kind = "whole numbers" if self._kind is int else "numbers"
            self.fail(f"must be {kind} with commas between them, got {value!r}", param, ctx)


@click.command("pareto")
@dataset_option(required=True)
@click.option(
    "--model",
    default="embedded",
    show_default=True,
    metavar="NAME",
    help="Image-text model; see `abs models`.",
    shell_complete=complete_model,
)
@class_options
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for pareto.png and pareto.csv, which are replaced.",
)
@click.option(
    "--views",
    type=_Numbers(int),
    default="1,2,3,5,8,12,20,30,50",
    show_default=True,
    metavar="N1,N2,...",
    help="Numbers of views of each kind for abs. The full run, with 50, is always measured.",
)
@click.option(
    "--agreements",
    type=_Numbers(float),
    default="0.9,0.95,0.99,0.999",
    show_default=True,
    metavar="P1,P2,...",
    help="Agreements of adaptive views.",
)
@click.option(
    "--timed",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    metavar="N",
    help="Number of images on which the time is measured, without the cache.",
)
@limit_options
@seeds_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
@compute_options
@click.pass_obj
def command(
    home: Home,
    /,
    dataset: str,
    model: str,
    bundle: str | None,
    labels: str | None,
    out: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Draw accuracy and agreement with the full run against the time an image takes.

    Measures clip, cupl, wca, abs with several numbers of views, and adaptive views at several agreements. Features come
    from the cache; only the time is measured without it.

    \b
    abs pareto --dataset imagefolder:./val --bundle birds --out pareto/
    """
    require_installed("matplotlib", extra="plots")
    from abs_classify.evaluation.pareto import measure_pareto, write_pareto
    from abs_classify.models.store import WeightsStore

    start = time.monotonic()
    label_space = None if bundle is None and labels is None else choose_label_space(home, bundle, labels)
    results = measure_pareto(
        dataset,
        model,
        descriptions=label_space,
        cache=open_feature_store(home),
        weights=WeightsStore(home.models),
        progress=progress,
        **settings,
    )
    table, picture = write_pareto(results, out)
    click.echo(json_text(results.to_dict()) if as_json else str(results))
    note(f"{picture} and {table.name}; {format_duration(time.monotonic() - start)}")
