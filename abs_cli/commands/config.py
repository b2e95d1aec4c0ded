"""``abs config``: which options are set elsewhere than on the command line, where, and whether all is well there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from abs_cli.completion_values import complete_command
from abs_cli.console import PlainGroup, note
from abs_cli.exit_codes import ExitCode
from abs_cli.settings import (
    Setting,
    option_names,
    settings_of,
    sub_command,
    sub_commands,
    validate_table,
    validate_tables,
)
from abs_cli.settings_file import SettingsFile, find_settings_files, read_settings_file, settings_paths, users_file
from abs_cli.variables import foreign_variables, misspelt_variables, walk_commands
from abs_core.errors import AbsError, StorageError, UnknownNameError
from abs_core.home import Home
from abs_core.text import counted, json_text, printable, without_secrets

__all__ = ["command"]


@click.group("config", cls=PlainGroup)
def command() -> None:
    """Show, locate and check the configuration.

    Options come from the command line, else from variables, else from the user's own file, else from ./abs.toml (only
    harmless ones), else there is a default. A file has a table for each command, and one for what several share:

    \b
    [defaults]
    threads = 4
    [eval]
    views = 20
    [bundle.push]
    with-parents = true

    The variables of the same: ABS_THREADS, ABS_EVAL_VIEWS, ABS_BUNDLE_PUSH_WITH_PARENTS. docs/operations.md has more.
    """


@command.command("path")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, also of the folders in use.")
@click.pass_obj
def path_command(home: Home, as_json: bool) -> None:
    """Print the path of the user's own configuration file, which need not exist."""
    own = users_file()
    if as_json:
        folders = {"home": str(home.root), "cache": str(home.cache)}
        click.echo(json_text({"file": None if own is None else str(own), **folders}))
    elif own is None:
        note("ABS_CONFIG says that no file is read")
    else:
        click.echo(printable(str(own)))


@command.command("show")
@click.argument("words", nargs=-1, metavar="[COMMAND]...", shell_complete=complete_command)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def show_command(ctx: click.Context, words: tuple[str, ...], as_json: bool) -> None:
    """Show what is set, and where; of a COMMAND such as `bundle push` all options with their defaults."""
    root = ctx.find_root()
    files = find_settings_files()
    wanted = [(words, _find(root.command, words))] if words else list(walk_commands(root.command))
    rows = [
        {"command": " ".join(path), "option": name, "value": setting.value, "source": setting.source}
        for path, found in (((), root.command), *wanted)
        for name, setting in _settings(found, path, files, every=bool(words and path)).items()
    ]
    if as_json:
        shown = [{**row, "value": _without_secrets(row["value"])} for row in rows]
        click.echo(json_text({"files": [str(file.path) for file in files], "settings": shown}))
        return
    for file in files:
        note(f"{'your own' if file.is_own else 'of the working folder'}: {file.path}")
    for row in rows:
        name = " ".join(part for part in (str(row["command"]), f"--{row['option']}") if part)
        value = row["value"] if isinstance(row["value"], str) else json_text(row["value"])
        click.echo(printable(f"{name} = {without_secrets(value)}  ({row['source']})"))
    if not rows:
        note("nothing is set but defaults")


def _settings(
    found: click.Command, path: Sequence[str], files: Sequence[SettingsFile], *, every: bool
) -> dict[str, Setting]:
    settings = settings_of(found, path, files, ())
    if not every:
        return settings
    options = {id(option): (name, option) for name, option in reversed(option_names(found).items())}
    defaults = {name: Setting(_default(option), "default") for name, option in options.values()}
    return {name: settings.get(name, setting) for name, setting in sorted(defaults.items())}


def _default(option: click.Option) -> Any:
    """The default as JSON has it; what the help says of it where the command decides."""
    value = option.to_info_dict()["default"]
    return list(value) if isinstance(value, tuple) else value


def _without_secrets(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_secrets(part) for part in value]
    return without_secrets(value) if isinstance(value, str) else value


def _find(root: click.Command, words: Sequence[str]) -> click.Command:
    found = root
    for number, word in enumerate(words):
        inner = sub_command(found, word)
        if inner is None:
            raise UnknownNameError(
                "command", word, sub_commands(found), remedy=f"See `{' '.join(['abs', *words[:number]])} --help`"
            )
        found = inner
    return found


@command.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_context
def check_command(ctx: click.Context, file: Path | None) -> ExitCode:
    """Check configuration files whole, and look for variables that no option has. Exit code 2 if something is wrong.

    Without FILE these are the user's own file, that of the working folder, and the variables. FILE is checked as a file
    of the user's own.
    """
    root = ctx.find_root().command
    assert isinstance(root, click.Group)
    problems: list[str] = []
    checked = 0
    for checked_file in _files(file, problems):
        checked += 1
        problems += _problems(checked_file, root)
    if file is None:
        problems += [f"{problem}. Correct or unset it." for problem in misspelt_variables(root).values()]
        if foreign := foreign_variables(root):
            note(f"of other programs, or of plug-ins: {', '.join(foreign)}")
    for problem in problems:
        click.echo(printable(problem))
    click.echo(f"{counted(checked, 'file', 'files')} checked: {counted(len(problems), 'problem', 'problems')}")
    return ExitCode.ERROR if problems else ExitCode.DONE


def _files(file: Path | None, problems: list[str]) -> Iterator[SettingsFile]:
    """The files to check; what keeps one from being read is added to ``problems``."""
    paths = settings_paths() if file is None else [(file.absolute(), True)]
    for path, is_own in paths:
        try:
            checked = read_settings_file(path, is_own=is_own)
        except AbsError as error:
            problems.append(str(error))
            continue
        if checked is not None:
            yield checked
        elif file is not None:
            raise StorageError(f"there is no file {printable(str(file))!r}", remedy="Correct the path")


def _problems(file: SettingsFile, root: click.Command) -> list[str]:
    """What is wrong with a file, in the order of the commands."""
    problems = [*validate_tables(file, sub_commands(root)), *validate_table(file, (), root)]
    for path, found in walk_commands(root, groups=True):
        problems += validate_table(file, path, found)
    # a wrong value of [defaults] is one for each command that has the option
    return list(dict.fromkeys(map(str, problems)))
