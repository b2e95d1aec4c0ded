"""``abs bundle``: what the local store holds, what is in a bundle, whether it is sound, and how it travels."""

from __future__ import annotations

import click

from abs_cli.console import LazyGroup

__all__ = ["command"]


#: command -> (module under abs_cli.commands.bundles, the line that `abs bundle --help` shows)
COMMANDS = {
    "ls": ("ls", "List the bundles of the local store and those that ship with the toolkit."),
    "show": ("show", "Show the header and the sentences of a bundle."),
    "validate": ("validate", "Check every rule of the format."),
    "diff": ("diff", "Compare two bundles by class and sentence."),
    "merge": ("merge", "Make one bundle of several."),
    "review": ("review", "Write a sheet on which a colleague decides on every sentence, or read it back."),
    "import": ("importing", "Make a bundle of another tool's file."),
    "export": ("export", "Write a bundle in another tool's format."),
    "push": ("push", "Copy a bundle to a folder, a bucket or the Hugging Face hub."),
    "pull": ("pull", "Fetch a bundle that others share, and check all of it."),
    "yank": ("yank", "Mark a version as one that should not be used, and say why."),
    "rm": ("rm", "Remove a version from the local store."),
}


@click.group("bundle", cls=LazyGroup, package="abs_cli.commands.bundles", table=COMMANDS)
def command() -> None:
    """List, show, check, compare, change, review and share description bundles."""
