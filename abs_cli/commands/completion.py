"""``abs completion``: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a SHELL. For bash: eval "$(abs completion bash)" in ~/.bashrc."""
    from abs_cli.main import cli

    completer = get_completion_class(shell)
    assert completer is not None  # the choice above lists click's own shells
    click.echo(completer(cli, {}, "abs", "_ABS_COMPLETE").source())
    if shell == "bash":
        # bash breaks words at "@" for the names of hosts, and NAME@VERSION is one word
        click.echo("COMP_WORDBREAKS=${COMP_WORDBREAKS//@}")
