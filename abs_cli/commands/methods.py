"""``abs methods``: the rows that an evaluation can have."""

from __future__ import annotations

import json

import click

__all__ = ["command"]


@click.command("methods")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the methods: which views of an image meet which texts, and how they are matched."""
    from abs_classify.methods.table import METHODS

    if as_json:
        rows = [
            {
                "name": method.name,
                "summary": method.summary,
                "views": [view.key() for view in method.views],
                "texts": method.texts.name,
                "matcher": method.scorer.key(),
                "stream": method.stream,
            }
            for method in METHODS.values()
        ]
        click.echo(json.dumps(rows))
        return
    for method in METHODS.values():
        click.echo(f"{method.name:<14} {method.summary}")
