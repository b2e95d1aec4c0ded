"""The pages of the reference that follow from the commands themselves: options, variables, exit codes."""

from __future__ import annotations

import html
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from abs_cli.exit_codes import FINDINGS, MEANINGS, PARTIAL_RESULTS, ExitCode
from abs_cli.main import COMMANDS, cli
from abs_cli.settings import SHARED_OPTIONS, option_names, sub_command, sub_commands, variables_of

__all__ = ["command_pages", "exit_code_page", "variable_page"]

# What separates the paragraphs of a help text that click leaves as they are from those that it wraps.
_VERBATIM = "\b"


def command_pages() -> dict[str, str]:
    """The Markdown of a page for each command, and ``index`` with all of them."""
    rows = [f"| [`abs {name}`]({name}.md) | {_cell(text)} |" for name, (_, text) in COMMANDS.items()]
    index = ["# Commands", "", "Each page says what `--help` says.", "", "| | |", "|---|---|", *rows, ""]
    index += ["## Options of all commands", "", "They may stand before or after the command.", "", *_options((), cli)]
    pages = {"index": "\n".join(index) + "\n"}
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        pages[name] = "\n".join(_sections((name,), command)) + "\n"
    return pages


def exit_code_page() -> str:
    """The Markdown of the page of exit codes."""
    lines = ["# Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {int(code)} | {_cell(meaning)} |" for code, meaning in MEANINGS.items()]
    lines += ["", "| command | code | when |", "|---|---|---|"]
    for code, commands in ((ExitCode.FINDING, FINDINGS), (ExitCode.PARTIAL, PARTIAL_RESULTS)):
        lines += [f"| `abs {name}` | {int(code)} | {_cell(when)} |" for name, when in commands.items()]
    return "\n".join(
        [*lines, "", "See [Running it for others](../operations.md#exit-codes) for scripts and services.", ""]
    )


def variable_page() -> str:
    """The Markdown of the page of variables and configuration keys that several commands share."""
    lines = [
        "# Variables and keys", "",
        "An option comes from the command line, else from a variable, else from `abs.toml`, else from its default:",
        "[Running it for others](../operations.md#configuration) has the rules and the form of the file. The variable",
        "of each option is in the table of its [command](commands/index.md); its key in `abs.toml` is its name",
        "without the hyphens.", "",
        "## Shared by all commands", "",
        "Keys of the table `[defaults]`.", "",
        "| option | variable | |", "|---|---|---|",
    ]  # fmt: skip
    context = click.Context(cli)
    for names, option in _named(cli):
        record = option.get_help_record(context)
        lines.append(f"| `--{names[0]}` | `{variables_of((), names[0])[0]}` | {_cell(record[1] if record else '')} |")
    lines += [
        "", "## Shared by several", "",
        "Also keys of `[defaults]`; a command's own variable and its own table go before.", "",
        "| option | variable | commands |", "|---|---|---|",
    ]  # fmt: skip
    paths = list(_walk((), cli))
    for name in sorted(SHARED_OPTIONS):
        users = [f"`{' '.join(path)}`" for path, command in paths if path and name in option_names(command)]
        lines.append(f"| `--{name}` | `{variables_of((), name)[0]}` | {', '.join(users)} |")
    return "\n".join([*lines, "", "## Other variables", "", *_other_variables(), ""])


def _other_variables() -> list[str]:
    """The section of docs/operations.md, with its links as they are from the folder of the reference."""
    page = Path(__file__).parents[1].joinpath("operations.md").read_text(encoding="utf-8")
    section = page.partition("### Other variables\n\n")[2].partition("\n## ")[0].rstrip()
    section = re.sub(r"\]\((?=#)", "](operations.md", section)
    return re.sub(r"\]\((?=[a-z]+\.md)", "](../", section).splitlines()


def _walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    for name in sub_commands(command):
        below = sub_command(command, name)
        assert below is not None
        yield from _walk((*path, name), below)


def _sections(root: tuple[str, ...], command: click.Command) -> Iterator[str]:
    for path, member in _walk(root, command):
        yield from ("#" * min(len(path), 3) + f" abs {' '.join(path)}", "")
        if not isinstance(member, click.Group):
            usage = " ".join(member.collect_usage_pieces(click.Context(member)))
            yield from ("```text", f"abs {' '.join(path)} {usage}".rstrip(), "```", "")
        yield from _text(member.help or "")
        names = sub_commands(member)
        if names:
            yield from ("| | |", "|---|---|")
            for name in names:
                below = sub_command(member, name)
                assert below is not None
                anchor = "abs-" + "-".join((*path, name))
                yield f"| [`abs {' '.join((*path, name))}`](#{anchor}) | {_cell(below.get_short_help_str(200))} |"
            yield ""
        yield from _options(path, member)
        yield from _text(member.epilog or "")


def _named(command: click.Command) -> list[tuple[list[str], click.Option]]:
    """The options of a command with their long names."""
    names: dict[int, tuple[list[str], click.Option]] = {}
    for name, option in option_names(command).items():
        names.setdefault(id(option), ([], option))[0].append(name)
    return [pair for pair in names.values() if not pair[1].hidden]


def _options(path: Sequence[str], command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path[-1] if path else "abs")
    rows = []
    for names, option in _named(command):
        record = option.get_help_record(context)
        if record is not None:
            variable = variables_of(path, names[0])[0]
            rows.append(f"| {_code(record[0])}<br><small>{_code(variable)}</small> | {_cell(record[1])} |")
    if rows:
        yield from ("| option, variable | |", "|---|---|", *rows, "")


def _text(text: str) -> Iterator[str]:
    """A help text as Markdown: what is verbatim there is a block of code."""
    for paragraph in re.split(r"\n[ \t]*\n", inspect.cleandoc(text).partition("\f")[0]):
        if paragraph.startswith(_VERBATIM):
            yield from ("```text", inspect.cleandoc(paragraph.removeprefix(_VERBATIM).lstrip("\n")), "```", "")
        elif paragraph.strip():
            yield from (_prose(" ".join(paragraph.split())), "")


def _code(text: str) -> str:
    """Code in a cell of a table."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")


def _prose(text: str) -> str:
    """Text outside code without the signs that mean something in Markdown."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]])", r"\\\1", part) for part in parts)
