"""``abs completion``: the script with which a shell completes commands, options and their values."""

from __future__ import annotations

import click

from abs_cli.completion_shells import SHELLS, VARIABLE

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(list(SHELLS)))
def command(shell: str) -> None:
    """Print the completion script of a SHELL, which completes commands, options and the names that they take.

    \b
    bash:  echo 'eval "$(abs completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(abs completion zsh)"' >> ~/.zshrc
    fish:  abs completion fish > ~/.config/fish/completions/abs.fish
    """
    from abs_cli.main import cli

    click.echo(SHELLS[shell](cli, {}, "abs", VARIABLE).source(), nl=False)
