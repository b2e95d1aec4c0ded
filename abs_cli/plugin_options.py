"""``--plugin``, and how lists mark what plugins brought."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from abs_classify.plugins import EntryKind

__all__ = ["plugin_mark", "plugin_option", "plugin_value"]


def _load_plugins(context: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> None:
    if context.resilient_parsing:
        return  # shell completion runs nobody's code
    from abs_classify.plugins import load_plugins

    load_plugins(files)


#: Installed plugins and those of ``--plugin`` are loaded before the other options are read, which may name their parts.
plugin_option = click.option(
    "--plugin",
    type=click.Path(path_type=Path),
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_load_plugins,
    metavar="FILE.py",
    help="Python file that registers methods, models or data sets; it is run. May be repeated.",
)


def plugin_mark(kind: EntryKind, name: str) -> str:
    """What a list shows behind what a plugin registered; nothing of all else."""
    from abs_classify.plugins import plugin_of

    plugin = plugin_of(kind, name)
    return "" if plugin is None else f"  [plugin {plugin.name}]"


def plugin_value(kind: EntryKind, name: str) -> dict[str, str] | None:
    """The same as JSON: name and version of the plugin."""
    from abs_classify.plugins import plugin_of

    plugin = plugin_of(kind, name)
    return None if plugin is None else asdict(plugin)
