"""Variables of the environment that look like ours and that nothing reads: a misspelt one would be set in silence.

Other programs have variables with ``ABS_`` too. One is ours by its looks where it begins with the name of a command, is
close to a variable of ours, or is an option without its command.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from itertools import chain

import click

from abs_cli.settings import LOCAL_OPTIONS, SHARED_OPTIONS, option_names, sub_command, sub_commands, variables_of
from abs_core.text import printable

__all__ = ["foreign_variables", "misspelt_variables", "walk_commands"]

_PREFIX, _TOKENS = "ABS_", "ABS_TOKEN_"

# variables that are no options, see docs/operations.md
_OTHER_VARIABLES = ("ABS_CONFIG",)

# likeness behind the common prefix: of ABS_CAHCE and ABS_CACHE it is 0.8, of ABS_TIMEZONE and ABS_TIMEOUT 0.67
_CLOSE = 0.75

# a name may be as long as the environment allows
_SHOWN = 80


def misspelt_variables(root: click.Group) -> dict[str, str]:
    """What is wrong with each variable that looks like one of ours and that nothing reads, by its name.

    Commands are loaded only where a variable looks like one of theirs.
    """
    shared = _shared_variables(root)
    words = {_PREFIX + name.replace("-", "_").upper(): name for name in sub_commands(root)}
    problems = {}
    for name in _candidates(shared):
        commands = [command for word, command in words.items() if name.startswith(f"{word}_")]
        known = _command_variables(root, commands or _similar_commands(name, words))
        if name in known:
            continue
        meant = _closest(name, [*shared, *known])
        problem = f"nothing reads the variable {printable(name, _SHOWN)!r}"
        if meant:
            problems[name] = f"{problem} (did you mean {meant!r}?)"
        elif commands:
            problems[name] = f"{problem}: `abs {max(commands, key=len)}` has no such option"
        elif (option := name.removeprefix(_PREFIX).lower().replace("_", "-")) in LOCAL_OPTIONS:
            problems[name] = f"{problem}: with its command it is one, as in {_full_variable(root, option)}"
    return problems


def foreign_variables(root: click.Group) -> list[str]:
    """The other variables that begin as ours do and that nothing here reads."""
    misspelt = misspelt_variables(root)
    rest = [name for name in _candidates(_shared_variables(root)) if name not in misspelt]
    known = _command_variables(root, sub_commands(root)) if rest else set()
    return [name for name in rest if name not in known]


def walk_commands(
    command: click.Command, path: tuple[str, ...] = (), *, groups: bool = False
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below one, by its words; groups of commands only if asked."""
    for name in sub_commands(command):
        inner = sub_command(command, name)
        assert inner is not None  # it was listed
        if groups or not isinstance(inner, click.Group):
            yield (*path, name), inner
        yield from walk_commands(inner, (*path, name), groups=groups)


def _candidates(shared: Iterable[str]) -> list[str]:
    return sorted(
        name for name in os.environ if name.startswith(_PREFIX) and not name.startswith(_TOKENS) and name not in shared
    )


def _shared_variables(root: click.Group) -> list[str]:
    options = (*option_names(root), *sorted(SHARED_OPTIONS))
    return [*_OTHER_VARIABLES, *(variable for option in options for variable in variables_of((), option))]


def _command_variables(root: click.Group, names: Iterable[str]) -> set[str]:
    variables: set[str] = set()
    for name in names:
        command = sub_command(root, name)
        assert command is not None  # it was listed
        for path, inner in [((name,), command), *walk_commands(command, (name,))]:
            variables.update(variable for option in option_names(inner) for variable in variables_of(path, option))
    return variables


def _full_variable(root: click.Group, option: str) -> str:
    """The variable of an option that some command has; of ``abs eval`` if it is one of those."""
    evaluation = sub_command(root, "eval")
    assert evaluation is not None
    commands = chain([(("eval",), evaluation)], walk_commands(root))
    return next(variables_of(path, option)[0] for path, command in commands if option in option_names(command))


def _similar_commands(name: str, words: dict[str, str]) -> list[str]:
    """The commands that the beginning of a variable may be a misspelling of."""
    parts = name.split("_")
    beginnings = {"_".join(parts[: word.count("_") + 1]): None for word in words}
    return [words[word] for word in words if any(_closest(beginning, [word]) for beginning in beginnings)]


def _closest(name: str, choices: Iterable[str]) -> str:
    """The choice that may be meant, compared behind the prefix that all have; empty if there is none."""
    rest = {choice.removeprefix(_PREFIX): choice for choice in choices}
    close = difflib.get_close_matches(name[:_SHOWN].removeprefix(_PREFIX).upper(), rest, n=1, cutoff=_CLOSE)
    return rest[close[0]] if close else ""
