"""``abs methods``: the table of methods."""

from __future__ import annotations

import json

import click

__all__ = ["command"]


@click.command("methods")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the methods: which views of an image are compared with which class texts, and how."""
    from abs_classify.methods.table import METHODS

    if as_json:
        click.echo(json.dumps([method.to_dict() for method in METHODS.values()]))
        return
    for method in METHODS.values():
        click.echo(f"{method.name:<14} {method.summary}")
