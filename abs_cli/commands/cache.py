"""``abs cache``: what the stage cache holds, why a run missed it, whether it is sound, and how to shrink it."""

from __future__ import annotations

import json
import re

import click

from abs_classify.encoding.cache import CacheKey, StageCache, read_last_run
from abs_classify.encoding.digest_cache import DigestCache
from abs_cli.console import PlainGroup
from abs_core.files import remove_leftovers
from abs_core.home import Home
from abs_core.text import format_bytes, printable

__all__ = ["command"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@click.group("cache", cls=PlainGroup)
def command() -> None:
    """List, explain, verify and prune the stage cache."""


@command.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_stages(home: Home, as_json: bool) -> None:
    """Show the entries and bytes of each stage."""
    stages: dict[str, dict[str, int]] = {}
    cache = StageCache(home.cache)
    for entry in (*cache.entries(), *cache.derived()):
        row = stages.setdefault(entry.stage, {"entries": 0, "bytes": 0})
        row["entries"] += 1
        row["bytes"] += entry.bytes
    if as_json:
        click.echo(json.dumps({"folder": str(home.cache), "stages": stages}))
        return
    click.echo(printable(str(home.cache)))
    for stage, row in sorted(stages.items()):
        click.echo(f"  {stage:<16} {row['entries']:>8} entries {format_bytes(row['bytes']):>10}")
    if not stages:
        click.echo("  empty")


@command.command("explain")
@click.option(
    "--all", "all_keys", is_flag=True, help="Explain the first 64 computed entries of each stage, not only the first."
)
@click.pass_obj
def explain(home: Home, all_keys: bool) -> None:
    """Say, for the last run, what came from the cache, and what part of each key made the rest new."""
    cache = StageCache(home.cache)
    run = read_last_run(home.cache)
    if run is None:
        click.echo("no run has used this cache yet")
        return
    for stage in dict.fromkeys([*run.hits, *run.misses]):
        hits = run.hits.get(stage, 0)
        click.echo(f"{stage}: {hits} of {hits + run.misses.get(stage, 0)} from the cache")
    explained: set[str] = set()
    for key in run.missed:
        if all_keys or key.stage not in explained:
            explained.add(key.stage)
            _explain_key(cache, key)


def _explain_key(cache: StageCache, key: CacheKey) -> None:
    nearest = cache.explain(key)
    click.echo(f"{key.stage} {key.digest[:12]} was computed:")
    if nearest is None:
        click.echo("  no other entry of this stage exists")
        return
    entry, parts = nearest
    click.echo(f"  nearest entry {entry.digest[:12]} differs in")
    for part in parts[:8]:
        click.echo(f"    {part.path}: {_short(part.theirs)} there, {_short(part.ours)} here")
    if len(parts) > 8:
        click.echo(f"    and {len(parts) - 8} more")


@command.command("verify")
@click.pass_obj
def verify(home: Home) -> None:
    """Read every entry and every remembered digest, and remove the damaged ones, which are rebuilt when needed.

    Exit code 1 if there were any.
    """
    sound = damaged = 0
    for entry, good in StageCache(home.cache).verify():
        if good:
            sound += 1
        else:
            damaged += 1
            click.echo(printable(f"damaged, removed: {entry.path}"))
    remembered, forgotten = DigestCache(home.cache).verify()
    if forgotten:
        click.echo(f"damaged, removed: {forgotten} of {remembered + forgotten} remembered digests of files")
    sound, damaged = sound + remembered, damaged + forgotten
    click.echo(f"{sound} sound, {damaged} damaged")
    if damaged:
        raise SystemExit(1)


@command.command("prune")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove entries that were not used for this number of days.",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    help="Remove the least recently used entries until the rest fits into SIZE, such as 5G.",
)
@click.pass_obj
def prune(home: Home, days: float | None, max_size: str | None) -> None:
    """Remove old entries, and what killed runs left half-written in the cache and in --home more than a day ago."""
    if days is None and max_size is None:
        raise click.UsageError("nothing to remove is named. Give --older-than DAYS, --max-size SIZE or both")
    removed = StageCache(home.cache).prune(older_than_days=days, max_bytes=_parse_size(max_size))
    click.echo(f"removed {len(removed)} entries, {format_bytes(sum(entry.bytes for entry in removed))}")
    folders = (home.cache, home.bundles, home.journals, home.results, home.models)
    left = [
        *remove_leftovers(home.root, deep=False),
        *(path for folder in folders for path in remove_leftovers(folder)),
    ]
    if left:
        click.echo(f"removed {len(left)} half-written files and folders of killed runs")


def _parse_size(text: str | None) -> int | None:
    """The bytes of a size such as ``5G``."""
    if text is None:
        return None
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if not size:
        raise click.BadParameter(f"must be a size such as 500M or 5G, got {text!r}", param_hint="--max-size")
    return int(float(size[1]) * _UNITS[size[2]])


def _short(value: object) -> str:
    return printable(json.dumps(value, ensure_ascii=False), 60)
