"""``abs bundle export``: a bundle in another tool's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from abs_cli.console import note
from abs_core.home import Home
from abs_descriptions.bundles.repository import find_bundle

__all__ = ["command"]


@click.command("export")
@click.argument("reference")
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "format_name", required=True, help="cupl, clip-d, waffle, text or csv.")
@click.option(
    "--key", type=click.Choice(["name", "id"]), default="name", show_default=True, help="What stands for a class."
)
@click.pass_obj
def command(home: Home, reference: str, target: Path, format_name: str, key: Any) -> None:
    """Write the descriptions of a bundle in another tool's format; the same bundle gives the same bytes."""
    from abs_descriptions.bundles.exchange import export_bundle

    count = export_bundle(find_bundle(home, reference).path, target, format_name, key=key)
    left_out = f", {count.left_out} of another kind left out" if count.left_out else ""
    note(f"{count.written} descriptions written to {target}{left_out}")
