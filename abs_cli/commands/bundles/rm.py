"""``abs bundle rm``: a version out of the local store."""

from __future__ import annotations

import sys

import click

from abs_cli.console import note
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_descriptions.bundles.repository import refuse_shipped

__all__ = ["command"]


@click.command("rm")
@click.argument("reference", metavar="NAME@VERSION")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Even if another version of the local store names it as its parent.")
@click.pass_obj
def command(home: Home, reference: str, yes: bool, force: bool) -> None:
    """Remove a version from the local store, with its rejected completions.

    Its bytes are gone then, unless they lie elsewhere. To keep a version and only warn of it, use `abs bundle yank`.
    """
    from abs_descriptions.bundles.repository import BundleStore

    refuse_shipped(home, reference)
    store = BundleStore(home.bundles)
    entry = store.resolve_version(reference)
    children = [] if force else [f"{child.name}@{child.version}" for child in store.children(entry)]
    if children:
        raise UsageError(
            f"{entry.name}@{entry.version} is a parent of {', '.join(children[:5])}",
            remedy="Give --force to remove it all the same",
        )
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"removing {entry} has to be confirmed", remedy="Give --yes")
        if not click.confirm(f"Remove {entry} with {entry.counts.records} descriptions?", err=True):
            note("nothing was removed")
            return
    store.remove(reference)
    note(f"removed {entry}")
