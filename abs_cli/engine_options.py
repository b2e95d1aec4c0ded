"""Options of commands whose features other machines can compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

import click

from abs_cli.settings import without_settings
from abs_core.errors import UsageError

__all__ = ["engine_options", "threads_option"]

F = TypeVar("F", bound=Callable[..., Any])


threads_option = click.option(
    "--threads", metavar="N", type=click.IntRange(1, 1024), help="Number of CPU threads.  [default: all cores]"
)


def engine_options(function: F) -> F:
    """Add ``--engine`` and what belongs to ``--engine ray``; the command gets one value ``engine``."""

    @wraps(function)
    def with_engine(*arguments: Any, engine: str, **options: Any) -> Any:
        given = {name: options.pop(name) for name in ("address", "workers", "cpus_per_worker", "gpus_per_worker")}
        return function(*arguments, engine=_chosen_engine(engine, given), **options)

    chosen: Any = with_engine
    for option in reversed(
        [
            click.option(
                "--engine",
                type=click.Choice(["local", "ray"]),
                default="local",
                show_default=True,
                help="Where features are computed: in this process, or by workers of Ray that share the cache.",
            ),
            click.option(
                "--address",
                metavar="ADDRESS",
                help="With --engine ray: of the cluster, HOST:PORT or auto.  [default: RAY_ADDRESS, else this machine]",
            ),
            click.option(
                "--workers",
                type=click.IntRange(min=1),
                metavar="N",
                help="With --engine ray: how many, each with a model.  [default: what the cluster has room for]",
            ),
            click.option(
                "--cpus-per-worker",
                type=click.IntRange(min=1),
                metavar="C",
                help="With --engine ray: cores, and threads, of each worker.  [default: 1]",
            ),
            click.option(
                "--gpus-per-worker",
                type=click.FloatRange(min=0),
                metavar="G",
                help="With --engine ray: GPUs of each worker, such as 1 or 0.5.  [default: 0]",
            ),
        ]
    ):
        chosen = option(chosen)
    return cast("F", chosen)


def _chosen_engine(name: str, given: Mapping[str, Any]) -> Any:
    """The engine of a command.

    Args:
        name: the value of ``--engine``.
        given: the options of Ray, None for those that were not given.

    Raises:
        UsageError: an option of Ray without it.
    """
    usable = without_settings(given) if name == "local" else given
    chosen = {option: value for option, value in usable.items() if value is not None}
    if name == "local":
        if chosen:
            raise UsageError(
                f"--{next(iter(chosen)).replace('_', '-')} has no effect without --engine ray",
                remedy="Add --engine ray, or leave it out",
            )
        return name
    from abs_classify.engines.ray_engine import RayEngine

    return RayEngine(**chosen)
