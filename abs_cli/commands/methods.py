"""``abs methods``: the table of methods, and the parameters of each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from abs_cli.completion_values import complete_method
from abs_cli.plugin_options import plugin_mark, plugin_option, plugin_value
from abs_core.text import printable

if TYPE_CHECKING:
    from abs_classify.methods.table import Method

__all__ = ["command"]


@click.command("methods")
@click.argument("name", required=False, metavar="[METHOD]", shell_complete=complete_method)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plugin_option
def command(name: str | None, as_json: bool) -> None:
    """List the methods: which views of an image are compared with which class texts, and how.

    With the name of a METHOD, show its parameters and their defaults. Wherever a method is named, parameters can be set
    in brackets behind it:

    \b
    abs methods abs
    abs classify photo.jpg --labels cat,dog --method 'abs-pixels(views=10, temperature=0.05)'
    """
    from abs_classify.methods.table import METHODS, get_method

    if name is not None:
        method = get_method(name)
        click.echo(json.dumps(_value(method)) if as_json else "\n".join(map(printable, _lines(method))))
    elif as_json:
        click.echo(json.dumps([_value(method) for method in METHODS.values()]))
    else:
        for method in METHODS.values():
            click.echo(printable(f"{method.name:<14} {method.summary}{plugin_mark('method', method.name)}"))


def _value(method: Method) -> dict[str, Any]:
    return {**method.to_dict(), "plugin": plugin_value("method", (method.base or method).name)}


def _lines(method: Method) -> list[str]:
    """The row, and its parameters below each other."""
    from abs_classify.methods.parameters import render_value

    mark = plugin_mark("method", (method.base or method).name)
    lines = [f"{method.name}: {method.summary}{mark}", *([method.note] if method.note else []), ""]
    if not method.parameters:
        return [*lines, "no parameters"]
    rows = [(f"{name}={render_value(parameter.default)}", parameter) for name, parameter in method.parameters.items()]
    width = max(len(setting) for setting, _ in rows)
    for setting, parameter in rows:
        choices = f" [{', '.join(parameter.choices)}]" if parameter.choices else ""
        lines.append(f"  {setting:<{width}}  {parameter.part}: {parameter.meaning}{choices}".rstrip())
    return lines
