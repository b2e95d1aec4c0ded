"""Options from elsewhere: from variables and configuration files.

What counts, the strongest first: the command line, a variable, the user's own file, the file of the working folder, the
default. ``--views`` of ``abs eval`` is the variable ``ABS_EVAL_VIEWS`` and the key ``views`` of the table ``[eval]``;
options that mean the same in every command are also ``ABS_THREADS`` and ``threads`` of the table ``[defaults]``.

A file in the working folder may have come with someone's data. It may say how something is computed, with the commands
and options of ``LOCAL_COMMANDS`` and ``LOCAL_OPTIONS``, and nothing that runs code, sends data, costs money, or names
what is written, removed or fetched.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from abs_cli.settings_file import SettingsFile, find_settings_files, users_file
from abs_core.errors import AbsError, UnknownNameError, UsageError
from abs_core.text import printable, quoted

__all__ = [
    "DEFAULTS",
    "LOCAL_COMMANDS",
    "LOCAL_OPTIONS",
    "SHARED_OPTIONS",
    "Setting",
    "apply_common_settings",
    "apply_settings",
    "name_sources",
    "option_names",
    "setting_source",
    "settings_of",
    "sub_command",
    "sub_commands",
    "validate_table",
    "validate_tables",
    "variables_of",
    "without_settings",
]

#: The table of options that several commands have.
DEFAULTS = "defaults"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Options of commands that may stand in it: they mean the same wherever they are.
SHARED_OPTIONS = _words("""
    address attention backend base-url concurrency cpus-per-worker device engine gpus-per-worker key-variable plugin
    prices requests-per-minute runtime threads timeout tokens-per-minute truncated workers
""")

#: Commands that a file in the working folder may set options of. They compute and show; what they write is named on the
#: command line.
LOCAL_COMMANDS = _words("attribute classify eval features filter-descriptions label lint methods pareto robustness") | {
    f"{group} {name}"
    for group, names in (
        ("bundle", "diff log score show test"),
        ("datasets", "check ls show"),
        ("models", "ls show"),
        ("results", "classes compare ls plot show"),
    )
    for name in names.split()
}

#: The options that it may set: numbers, choices, and names of what is looked at.
LOCAL_OPTIONS = _words("""
    agreement agreements attention base batch-size budget-seconds budget-views bundle calibration class-rows control
    dataset device diversity doubtful-first dtype examples format ignore images json keep labels least limit log-format
    max-loss max-ratio method methods min-descriptions min-gain min-mass model near-duplicate nearer negatives none of
    off-topic on-error progress report-images rows runtime seed seeds single-changes stat stopping stratified
    stream-order strict templates threads threshold timed top truncated views
""")

# option -> the weaker settings that it sets aside, which exclude it or need what it replaces
_ADAPTIVE = ("agreement", "stopping", "calibration", "budget-views", "budget-seconds")
_SETS_ASIDE: Mapping[str, tuple[str, ...]] = {
    "bundle": ("labels",),
    "labels": ("bundle",),
    "dataset": ("images",),
    "images": ("dataset",),
    "views": _ADAPTIVE,
    "budget-views": _ADAPTIVE,
    "budget-seconds": _ADAPTIVE,
    "agreement": ("budget-views", "budget-seconds"),
    "stopping": ("budget-views", "budget-seconds"),
    "calibration": ("budget-views", "budget-seconds"),
    "prices": ("price-in", "price-out"),
    "price-in": ("prices",),
    "price-out": ("prices",),
    "keep": ("min-mass",),
    "min-mass": ("keep",),
    "json": ("format",),
    "format": ("json",),
}

_META = "abs_cli.settings"
_FILES, _PROBLEM, _SOURCES = f"{_META}.files", f"{_META}.problem", f"{_META}.sources"

# where click has the value of a setting from
_ORIGINS = (click.core.ParameterSource.ENVIRONMENT, click.core.ParameterSource.DEFAULT_MAP)

# the commands that help where the configuration is broken
_WITHOUT_FILES = ("config", "completion", "doctor")


@dataclass(frozen=True)
class Setting:
    """The value of an option that the command line does not give.

    Args:
        value: as click takes it from a default.
        source: where it stands: the name of a variable, or file and line.
        file: that file; None for a variable.
    """

    value: Any
    source: str
    file: SettingsFile | None = None


def option_names(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by every long name, without the hyphens."""
    return {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--") and name not in ("--help", "--version" if option.is_eager and option.is_flag else "")
    }


def _long_name(option: click.Option) -> str:
    return next(name for name in option.opts if name.startswith("--")).removeprefix("--")


def variables_of(command: Sequence[str], option: str) -> list[str]:
    """The variables that may hold an option, the strongest first.

    Args:
        command: its words; none for the options that all commands share.
        option: its long name, without the hyphens.
    """
    names = ["_".join(("ABS", *command, option))] if command else []
    if not command or option in SHARED_OPTIONS:
        names.append(f"ABS_{option}")
    return [name.replace("-", "_").upper() for name in names]


def apply_common_settings(context: click.Context, command: click.Group, args: Sequence[str]) -> None:
    """Read the configuration files, and set what they and variables say of the options that all commands share.

    A file that cannot be used is said when the command is known, by ``apply_settings``.
    """
    try:
        context.meta[_FILES] = find_settings_files()
        for file in context.meta[_FILES]:
            _raise_first(context, validate_tables(file, command.list_commands(context)))
            _raise_first(context, validate_table(file, (), command))
        settings = settings_of(command, (), context.meta[_FILES], args)
    except AbsError as error:
        context.meta[_FILES], context.meta[_PROBLEM] = [], error
        settings = settings_of(command, (), [], args)
    _set_defaults(context, context, settings, command)


def apply_settings(context: click.Context, name: str, command: click.Command, args: Sequence[str]) -> str:
    """Set what configuration files and variables say of the options of a command, before it reads its arguments.

    Args:
        context: of the group that the command belongs to.
        name: of the command in that group, maybe of two words.
        command: the command, or a group.
        args: its arguments.

    Returns:
        What the user should know: the settings that come from the working folder; empty if there are none.

    Raises:
        AbsError: a file that cannot be used, a key that is unknown or not allowed there, a value of a wrong type.
    """
    path = (*_path_of(context), *name.split())
    is_asked_for_help = any(arg in ("-h", "--help") for arg in args)
    if path[0] in _WITHOUT_FILES or is_asked_for_help or context.resilient_parsing:
        files: list[SettingsFile] = []
    elif _PROBLEM in context.meta:
        raise context.meta[_PROBLEM]
    else:
        files = context.meta.get(_FILES, [])
    for file in files:
        _raise_first(context, validate_table(file, path, command))
    # also where there is nothing: an option of the group may have the name of the command, as --cache has
    context.default_map = {**(context.default_map or {}), name: {}}
    if isinstance(command, click.Group):
        return ""
    settings = settings_of(command, path, files, args)
    _set_defaults(context, context.default_map[name], settings, command)
    return _local_remark(settings)


def _raise_first(context: click.Context, problems: Iterator[AbsError]) -> None:
    for problem in problems:
        context.meta[_PROBLEM] = problem
        raise problem


def _path_of(context: click.Context) -> tuple[str, ...]:
    names = []
    current: click.Context | None = context
    while current is not None and current.parent is not None:
        names.append(str(current.info_name))
        current = current.parent
    return tuple(reversed(names))


def _set_defaults(
    context: click.Context,
    target: click.Context | dict[str, Any],
    settings: Mapping[str, Setting],
    command: click.Command,
) -> None:
    """Let click find each setting: a variable by the name of it, a value of a file as a default."""
    defaults: dict[str, Any] = {}
    sources = context.meta.setdefault(_SOURCES, {})
    for option in {id(option): option for option in option_names(command).values()}.values():
        setting = settings.get(_long_name(option))
        option.envvar = setting.source if setting is not None and setting.file is None else None
        if setting is not None:
            sources[id(option)] = (_long_name(option), setting)
            if setting.file is not None:
                defaults[str(option.name)] = setting.value
    if isinstance(target, click.Context):
        target.default_map = defaults
    else:
        target.update(defaults)


def _local_remark(settings: Mapping[str, Setting]) -> str:
    files = {name: setting.file for name, setting in settings.items() if setting.file is not None}
    local = {name: file for name, file in files.items() if not file.is_own}
    if not local:
        return ""
    values = ", ".join(f"{name}={_shown(settings[name].value)}" for name in sorted(local))
    return f"settings of the working folder, from {next(iter(local.values())).path}: {values}"


def _shown(value: Any) -> str:
    """A value as TOML has it, for messages."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def setting_source(error: click.BadParameter) -> str | None:
    """Where a wrong value comes from, if not from the command line: a variable, or a key of a file."""
    option, context = error.param, error.ctx
    if not isinstance(option, click.Option) or context is None or option.name is None:
        return None
    name, setting = context.meta.get(_SOURCES, {}).get(id(option), ("", None))
    is_set = setting is not None and context.get_parameter_source(option.name) in _ORIGINS
    return _described(name, setting) if is_set else None


def without_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the running command with None for each that a variable or a file sets.

    A setting is for many commands: where it has no effect it is left out, while on the command line it is an error.

    Args:
        values: by the names that the options have in Python.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return dict(values)
    settings = {
        option.name
        for option in context.command.params
        if id(option) in context.meta.get(_SOURCES, {})
        and option.name is not None
        and context.get_parameter_source(option.name) in _ORIGINS
    }
    return {name: None if name in settings else value for name, value in values.items()}


def _described(name: str, setting: Setting) -> str:
    return f"the variable {setting.source}" if setting.file is None else f"{name!r} in {setting.source}"


# a part of a value that is shorter, or a number, may stand in a message by chance
_SHORTEST_PART = 3
_PARTS = re.compile(r"[,:?&\s]+")


def name_sources(context: click.Context, error: AbsError) -> None:
    """Let an error of a command begin with where the settings that it speaks of come from.

    It speaks of one if it names the option, or repeats the value or a part of it, as the path of ``imagefolder:PATH``.

    Args:
        context: of the command, or one above it.
        error: of which only the message changes.
    """
    if error is context.meta.get(_PROBLEM):
        return  # it begins with the line of the file
    text = f"{error.message} {error.remedy}"
    sources = [
        _described(name, setting)
        for name, setting in context.meta.get(_SOURCES, {}).values()
        if setting.source not in text and (_has_word(text, f"--{name}") or _repeats(text, setting.value))
    ]
    if sources:
        error.message = f"{' and '.join(sources)}: {error.message}"


def _repeats(text: str, value: Any) -> bool:
    if isinstance(value, list):
        return any(_repeats(text, part) for part in value)
    parts = {value, *_PARTS.split(value)} if isinstance(value, str) else set()
    return any(
        len(part) >= _SHORTEST_PART and not _is_number(part) and _has_word(text, printable(part)) for part in parts
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w/-])", text) is not None


def settings_of(
    command: click.Command, path: Sequence[str], files: Iterable[SettingsFile], args: Sequence[str]
) -> dict[str, Setting]:
    """What variables and files set of the options of a command, by their long names.

    Args:
        command: the command.
        path: its words; none for the options that all commands share.
        files: the strongest first; those that ``validate_table`` finds nothing in.
        args: of the command line: an option that is there counts by itself, and sets others aside.
    """
    names = option_names(command)
    options = {_long_name(option): option for option in names.values()}
    given = {_long_name(option) for option in options.values() if any(_is_given(name, args) for name in option.opts)}
    levels: list[dict[str, Setting]] = [_settings_of_variables(path, options)]
    levels += [_settings_of_file(file, path, names) for file in files]
    chosen: dict[str, Setting] = {}
    for level in levels:
        settled = given | chosen.keys()
        aside = {name for strong in settled for name in _SETS_ASIDE.get(strong, ())}
        chosen |= {name: setting for name, setting in level.items() if name not in settled | aside}
    return chosen


def _is_given(option: str, args: Sequence[str]) -> bool:
    return any(arg == option or arg.startswith(f"{option}=") for arg in args)


def _settings_of_variables(path: Sequence[str], options: Mapping[str, click.Option]) -> dict[str, Setting]:
    settings = {}
    for name in options:
        variable = next((variable for variable in variables_of(path, name) if os.environ.get(variable)), None)
        if variable is not None:
            settings[name] = Setting(os.environ[variable], variable)
    return settings


def _settings_of_file(file: SettingsFile, path: Sequence[str], names: Mapping[str, click.Option]) -> dict[str, Setting]:
    settings = {}
    for table in ((DEFAULTS,), path) if path else ((DEFAULTS,),):
        values = _table(file, table)
        for key, value in values.items():
            option = names.get(key)
            is_shared = table != (DEFAULTS,) or not path or key in SHARED_OPTIONS
            converted = _converted(option, value, file) if option is not None and is_shared else None
            if option is not None and converted is not None:
                settings[_long_name(option)] = Setting(converted, file.place(" ".join(table), key), file)
    return settings


def _table(file: SettingsFile, path: Sequence[str]) -> Mapping[str, Any]:
    table: Any = file.tables
    for name in path:
        table = table.get(name, {}) if isinstance(table, Mapping) else {}
    return table if isinstance(table, Mapping) else {}


def validate_tables(file: SettingsFile, commands: Sequence[str]) -> Iterator[AbsError]:
    """What is wrong with the names of the tables: keys outside them, and commands that do not exist."""
    for name, value in file.tables.items():
        if name not in (DEFAULTS, *commands):
            kind = "table" if isinstance(value, Mapping) else "table, for a key outside of all,"
            error = UnknownNameError(kind, name, [DEFAULTS, *commands], remedy="See `abs --help`")
            yield _placed(error, file.place(name))
        elif not isinstance(value, Mapping):
            yield UsageError(f"{file.place('', name)}: {name!r} must be a table", remedy=f"Write [{name}]")


def _placed(error: AbsError, place: str) -> AbsError:
    error.message = f"{place}: {error.message}"
    return error


def validate_table(file: SettingsFile, path: Sequence[str], command: click.Command) -> Iterator[AbsError]:
    """What is wrong with the table of a command or a group, and with ``[defaults]`` where there is no ``path``.

    Args:
        file: the configuration file.
        path: the words of the command; none for the options that all commands share.
        command: the command.
    """
    table = tuple(path) or (DEFAULTS,)
    options = option_names(command)
    valid = {_long_name(option) for option in options.values()} | (SHARED_OPTIONS if not path else frozenset())
    below = sub_commands(command) if path else []
    for key, value in _table(file, table).items():
        if key in below and (isinstance(value, Mapping) or key not in options):
            if not isinstance(value, Mapping):
                yield UsageError(
                    f"{file.place(' '.join(table), key)}: {key!r} must be a table", remedy="See `abs --help`"
                )
            continue
        place = f"{file.place(' '.join(table), key)}: [{'.'.join(table)}]"
        if key not in options and key not in valid:
            remedy = f"See `abs {' '.join(path)} --help`" if path else "Other options stand in the tables of commands"
            yield _placed(UnknownNameError("key", key, [*sorted(valid), *below], remedy=remedy), place)
        elif not file.is_own and not _is_local(path, _long_name(options[key]) if key in options else key, value):
            yield UsageError(
                f"{place} {key!r} is not taken from a file of the working folder, which may come from someone else",
                remedy=f"Put it into your own configuration, {_own_file()}, or give --{key}",
            )
        elif key in options:
            problem = _type_problem(options[key], value)
            if problem:
                yield _type_error(f"{place} {key!r}", problem, value)
    for key, value in _table(file, (DEFAULTS,)).items() if path else ():
        problem = _type_problem(options[key], value) if key in options and key in SHARED_OPTIONS else ""
        if problem:
            yield _type_error(f"{file.place(DEFAULTS, key)}: [{DEFAULTS}] {key!r}", problem, value)


def _type_error(name: str, wanted: str, value: Any) -> UsageError:
    return UsageError(f"{name} must be {wanted}, got {quoted(_shown(value))}", remedy="Correct it")


def sub_commands(command: click.Command) -> list[str]:
    """The names of the commands below one."""
    if isinstance(command, click.Group):
        return command.list_commands(click.Context(command))
    return list(getattr(command, "subcommands", ()))


def sub_command(command: click.Command, name: str) -> click.Command | None:
    """The command of a name below another; None if there is none."""
    if name not in sub_commands(command):
        return None
    if isinstance(command, click.Group):
        return command.get_command(click.Context(command), name)
    found: click.Command = command.subcommand(name)  # type: ignore[attr-defined]
    return found


# what a data set is downloaded from, and into
_DOWNLOAD = re.compile(r"://|[?&]to=")


def _is_local(path: Sequence[str], option: str, value: Any) -> bool:
    """Whether a file in the working folder may set an option to a value."""
    if option not in LOCAL_OPTIONS or (path and " ".join(path) not in LOCAL_COMMANDS):
        return False
    values = value if isinstance(value, list) else [value]
    return not any(isinstance(part, str) and _DOWNLOAD.search(part) for part in values)


def _own_file() -> str:
    own = users_file()
    return printable(str(own)) if own is not None else "the file that ABS_CONFIG names"


_INTEGERS, _NUMBERS = (click.types.IntParamType,), (click.types.FloatParamType,)
_TEXTS = (click.types.StringParamType, click.Path, click.Choice)


def _type_problem(option: click.Option, value: Any) -> str:
    """What a value must be; empty if it is."""
    if option.is_flag:
        return "" if isinstance(value, bool) else "true or false"
    values = value if option.multiple and isinstance(value, list) else [value]
    wanted, types = _types(option.type)
    fits = all(isinstance(part, types) and not isinstance(part, bool) for part in values)
    return "" if fits else f"{wanted}, or a list of such" if option.multiple else wanted


def _types(kind: click.ParamType[Any]) -> tuple[str, tuple[type, ...]]:
    if isinstance(kind, _INTEGERS):
        return "a whole number", (int,)
    if isinstance(kind, _NUMBERS):
        return "a number", (int, float)
    if isinstance(kind, _TEXTS):
        return "a text in quotes", (str,)
    if kind.name == "json":
        return "a table, or JSON in quotes", (str, dict)
    return "a number or a text in quotes", (int, float, str)


def _converted(option: click.Option, value: Any, file: SettingsFile) -> Any:
    """A value of a file as click takes it from the command line, which is as text; None for a flag that is off."""
    if isinstance(value, dict) and option.type.name != "json":
        return None  # the table of a sub-command of that name
    if option.is_flag:
        return value if option.is_bool_flag else option.flag_value if value else None
    if option.multiple:
        return [_text(option, part, file) for part in (value if isinstance(value, list) else [value])]
    return _text(option, value, file)


def _text(option: click.Option, value: Any, file: SettingsFile) -> Any:
    if isinstance(value, dict):
        return value
    if isinstance(option.type, click.Path) and value != "-" and "://" not in value:
        # as seen from the file: the user's own counts in whichever folder a command runs
        return str(file.path.parent / Path(value).expanduser())
    return str(value)
