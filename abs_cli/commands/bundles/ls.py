"""``abs bundle ls``: which bundles there are."""

from __future__ import annotations

import json

import click

from abs_cli.console import note
from abs_cli.sharing import list_location
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_core.text import printable
from abs_descriptions.bundles.repository import shipped_bundles

__all__ = ["command"]


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a bundle, `yanked` the reason or null.")
@click.option("--remote", metavar="LOCATION", help="List what is there instead, as `abs bundle pull` names places.")
@click.option("--limit", type=click.IntRange(1, 100_000), help="Versions, of a remote place.  [default: 1000]")
@click.pass_obj
def command(home: Home, as_json: bool, remote: str | None, limit: int | None) -> None:
    """List the bundles of the local store and those that ship with the toolkit, each with its full reference."""
    from abs_descriptions.bundles import read_bundle
    from abs_descriptions.bundles.repository import BundleStore

    if remote is not None:
        list_location(remote, limit or 1000, as_json)
        return
    if limit is not None:
        raise UsageError("--limit is for --remote: the local store is listed whole", remedy="Leave it out")
    store = BundleStore(home.bundles)
    entries = store.list()
    own = {(entry.name, entry.version) for entry in entries}
    listed = [(str(entry), store.yank_of(entry)) for entry in entries]
    sound = [read_bundle(path) for path in shipped_bundles().values()]
    shipped = [one.reference for one in sound if (one.header.name, one.header.version) not in own]
    found = [(reference, None if yank is None else yank.reason) for reference, yank in listed]
    found += [(reference, None) for reference in shipped]
    if as_json:
        click.echo(json.dumps([{"reference": reference, "yanked": reason} for reference, reason in found]))
        return
    for reference, reason in found:
        click.echo(reference + ("" if reason is None else f"  YANKED: {printable(reason)}"))
    note(f"{len(entries)} in {home.bundles}, {len(shipped)} shipped with the toolkit")
