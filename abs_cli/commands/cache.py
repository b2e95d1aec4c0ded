"""``abs cache``: which features the cache holds, why a run computed some, whether all are sound; shrinking it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from abs_classify.encoding.cache import derived_files, former_cache, remove_path
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.last_run import SpaceUse, nearest_space, read_last_run
from abs_cli.console import PlainGroup
from abs_cli.exit_codes import ExitCode
from abs_cli.options import open_feature_store
from abs_core.files import remove_leftovers
from abs_core.home import Home
from abs_core.text import format_bytes, format_duration, parse_bytes, printable

if TYPE_CHECKING:
    from abs_classify.encoding.spaces import Space, SpaceSummary

__all__ = ["command"]

# of a space that is explained
_MOST_PARTS = 8


@click.group("cache", cls=PlainGroup)
def command() -> None:
    """List, explain, verify and prune the cache of features."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_spaces(home: Home, as_json: bool) -> None:
    """Show the feature spaces by stage: images or texts, rows, bytes, last use, and of what they are.

    A space is everything besides the image or text that can change a feature: model, kind of views, seed and so on.
    """
    spaces = sorted(open_feature_store(home).summaries(), key=_stage)
    derived, former = list(derived_files(home.cache)), former_cache(home.cache)
    if as_json:
        listing = {
            "folder": home.bucket or str(home.cache),
            "spaces": [_as_json(summary) for summary in spaces],
            "derived": {"entries": len(derived), "bytes": sum(file.size for file in derived)},
            "former": None if former is None else {"folder": str(former.path), "bytes": former.size},
        }
        click.echo(json.dumps(listing))
        return
    click.echo(printable(home.bucket or str(home.cache)))
    for summary in spaces:
        counts = f"{summary.items:>9,} items {summary.rows:>11,} rows {format_bytes(summary.size):>9}"
        age = format_duration(max(0.0, time.time() - summary.used))
        click.echo(f"  {_stage(summary)[0]:<14} {counts}  used {age} ago: {printable(_title(summary.space))}")
    if derived:
        size = format_bytes(sum(file.size for file in derived))
        click.echo(f"  {'derived':<14} {len(derived):>9,} files, which models computed from their weights, {size}")
    if former is not None:
        click.echo(
            f"  {former.path.name}: {format_bytes(former.size)} of a former version, which nothing uses; "
            "`abs cache prune --former` removes it"
        )
    if not (spaces or derived or former):
        click.echo("  empty")


def _stage(summary: SpaceSummary) -> tuple[str, str]:
    return ("unknown" if summary.space is None else printable(summary.space.stage), _title(summary.space))


def _title(space: Space | None) -> str:
    """What a space is of, in a few words; the rest is what ``explain`` compares."""
    if space is None:
        return "the description of this space is damaged"
    view = space.inputs.get("view")
    parts = [space.about, f"{view['kind']} views" if isinstance(view, dict) and "kind" in view else ""]
    parts.append(f"seed {space.inputs['seed']}" if "seed" in space.inputs else "")
    return ", ".join(part for part in parts if part) or "any model"


def _as_json(summary: SpaceSummary) -> dict[str, object]:
    space = summary.space
    return {
        "space": summary.digest,
        "stage": None if space is None else space.stage,
        "version": None if space is None else space.version,
        "inputs": None if space is None else space.inputs,
        "about": None if space is None else space.about,
        "items": summary.items,
        "rows": summary.rows,
        "packs": summary.packs,
        "bytes": summary.size,
        "used": summary.used,
    }


@command.command("explain")
@click.pass_obj
def explain(home: Home) -> None:
    """Say what the last `abs eval` or `abs features` computed, and in what a new space differs from the nearest one."""
    uses = read_last_run(home.cache)
    if uses is None:
        click.echo("no run has used this cache yet")
        return
    store = open_feature_store(home)
    known = [summary.space for summary in store.summaries() if summary.space is not None]
    for use in uses:
        stage, title = printable(use.space.stage), printable(_title(use.space))
        computed = f"computed {use.items - use.items_found:,} of {use.items:,} items"
        if use.space.stage == "view-features":
            computed += f", {use.rows - use.rows_found:,} of {use.rows:,} views"
        is_complete = use.rows_found >= use.rows
        if is_complete:
            computed = f"all {use.items:,} items came from the cache"
        click.echo(f"{stage} ({title}): {computed}")
        if not is_complete:
            _explain_use(use, known)


def _explain_use(use: SpaceUse, known: list[Space]) -> None:
    if use.rows_found:
        click.echo("  the others were there: these are new, or were removed from the cache")
        return
    nearest = nearest_space(use.space, known)
    if nearest is None:
        click.echo("  nothing of this kind was there")
        return
    space, parts = nearest
    click.echo(f"  nothing was there of this space; the nearest one ({printable(_title(space))}) differs in")
    for part in parts[:_MOST_PARTS]:
        click.echo(f"    {printable(part.path)}: {_short(part.theirs)} there, {_short(part.ours)} here")
    if len(parts) > _MOST_PARTS:
        click.echo(f"    and {len(parts) - _MOST_PARTS} more")


@command.command("verify")
@click.pass_obj
def verify(home: Home) -> None:
    """Read every row and every remembered digest, and drop the damaged ones, which are computed again when needed.

    Exit code 1 if there were any.
    """
    sound = damaged = 0
    for pack in open_feature_store(home).verify():
        sound, damaged = sound + pack.sound, damaged + pack.damaged
        if pack.damaged:
            rows = f"{pack.damaged:,} of {pack.sound + pack.damaged:,} rows" if pack.sound else "all rows"
            click.echo(printable(f"damaged, dropped: {rows} of {pack.path}"))
    remembered, forgotten = DigestCache(home.cache).verify()
    if forgotten:
        click.echo(f"damaged, dropped: {forgotten} of {remembered + forgotten} remembered digests of files")
    click.echo(f"{sound + remembered:,} sound, {damaged + forgotten:,} damaged")
    if damaged or forgotten:
        raise click.exceptions.Exit(ExitCode.FINDING)


@command.command("prune")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove features that were not used for this number of days.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help="Remove the features that were not used for the longest time until the rest fits into SIZE, such as 5G.",
)
@click.option("--former", is_flag=True, help="Remove what a former version of this toolkit kept, which nothing uses.")
@click.pass_obj
def prune(home: Home, days: float | None, max_size: str | None, former: bool) -> None:
    """Remove features, and what killed runs left half-written in the cache and in --home more than a day ago.

    What a running process uses stays.
    """
    if days is None and max_size is None and not former:
        raise click.UsageError("nothing to remove is named. Give --older-than, --max-size or --former")
    if former:
        folder = former_cache(home.cache)
        if folder is not None and remove_path(folder.path):
            click.echo(f"removed {printable(str(folder.path))}, {format_bytes(folder.size)}")
    if days is not None or max_size is not None:
        removed = open_feature_store(home).prune(older_than_days=days, max_bytes=_parse_size(max_size))
        click.echo(f"removed {len(removed)} files, {format_bytes(sum(file.size for file in removed))}")
    folders = (home.cache, home.indexes, home.bundles, home.journals, home.results, home.models)
    left = [
        *remove_leftovers(home.root, deep=False),
        *(path for folder in folders for path in remove_leftovers(folder)),
    ]
    if left:
        click.echo(f"removed {len(left)} half-written files and folders of killed runs")


def _parse_size(text: str | None) -> int | None:
    """The bytes of a size such as ``5G``."""
    try:
        return None if text is None else parse_bytes(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--max-size") from None


def _short(value: object) -> str:
    return printable(json.dumps(value, ensure_ascii=False), 60)
