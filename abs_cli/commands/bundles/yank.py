"""``abs bundle yank``: a version that should no longer be used, and why."""

from __future__ import annotations

import click

from abs_cli.console import note
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_descriptions.bundles.repository import refuse_shipped

__all__ = ["command"]


@click.command("yank")
@click.argument("reference", metavar="NAME@VERSION")
@click.option("--reason", help="Why it should not be used; shown wherever it is.")
@click.option("--undo", is_flag=True, help="Make a yanked version one like any other.")
@click.pass_obj
def command(home: Home, reference: str, reason: str | None, undo: bool) -> None:
    """Mark a version of the local store as one that should not be used.

    NAME alone no longer means it. NAME@VERSION still does, with a warning, so that old results can be repeated. Its
    bytes and its digest stay as they are.
    """
    from abs_descriptions.bundles.repository import BundleStore

    store = BundleStore(home.bundles)
    if undo == (reason is not None):
        raise UsageError("a yank needs a reason, and its undoing none", remedy="Give --reason TEXT or --undo")
    refuse_shipped(home, reference)
    if reason is None:
        click.echo(str(store.undo_yank(reference)))
        return
    store.yank(reference, reason)
    entry = store.resolve_version(reference)
    click.echo(str(entry))
    if all(store.yank_of(one) for one in store.list(entry.name)):
        note(f"no version of {entry.name} is left that is not yanked; {entry.name!r} alone is refused from now on")
