"""Bundles to and from other places: what is printed about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from abs_cli.console import note
from abs_core.home import Home
from abs_core.text import printable
from abs_descriptions.bundles.repository import refuse_shipped

if TYPE_CHECKING:
    from abs_descriptions.bundles.storage import SharedBundle

__all__ = ["list_location", "pull_bundles", "push_bundles"]


def push_bundles(home: Home, reference: str, location: str, with_parents: bool) -> None:
    """Push a bundle; the pinned references go to stdout, what happened to stderr.

    Raises:
        as ``parse_location``, ``open_remote`` and ``push``.
    """
    from abs_descriptions.bundles.repository import BundleStore
    from abs_descriptions.bundles.storage import open_remote, parse_location, push

    remote = open_remote(parse_location(location))
    refuse_shipped(home, reference)
    for shared in push(BundleStore(home.bundles), reference, remote, with_parents=with_parents):
        note(f"{'pushed to' if shared.fresh else 'already in'} {remote.address}")
        _say(shared, "the local store")


def pull_bundles(home: Home, reference: str, location: str, with_parents: bool) -> None:
    """Pull a bundle; the pinned references go to stdout, what happened to stderr.

    Raises:
        as ``parse_location``, ``open_remote`` and ``pull``.
    """
    from abs_descriptions.bundles.repository import BundleStore
    from abs_descriptions.bundles.storage import open_remote, parse_location, pull

    where = parse_location(location)
    remote = open_remote(where)
    if where.protocol == "http" and "#" not in reference:
        note("http: is not encrypted; whoever is between can change what comes, unless the reference pins its digest")
    for shared in pull(BundleStore(home.bundles), reference, remote, with_parents=with_parents):
        note(f"{'pulled from' if shared.fresh else 'already here, as in'} {remote.address}")
        _say(shared, remote.address)


def list_location(location: str, limit: int, as_json: bool) -> None:
    """Print the pinned references of what is in a place, and which are yanked.

    Raises:
        as ``parse_location``, ``open_remote`` and ``list_remote``.
    """
    from abs_descriptions.bundles.storage import list_remote, open_remote, parse_location

    remote = open_remote(parse_location(location))
    listing = list_remote(remote, limit=limit)
    for fault in listing.faults:
        note(f"left out: {fault}")
    if as_json:
        click.echo(json.dumps([{"reference": str(one.entry), "yanked": one.yank} for one in listing.versions]))
    else:
        for one in listing.versions:
            click.echo(str(one.entry) + ("" if one.yank is None else f"  YANKED: {printable(one.yank)}"))
    more = "; there are more, see --limit" if listing.cut else ""
    note(f"{len(listing.versions)} in {remote.address}{more}")


def _say(shared: SharedBundle, source: str) -> None:
    click.echo(str(shared.entry))
    if shared.yank is not None:
        note(f"warning: {shared.entry.name}@{shared.entry.version} is yanked: {shared.yank}")
    for parent in shared.missing:
        note(f"its parent {parent} is not in {source}")
