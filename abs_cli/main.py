"""The entry point ``abs``. A command is imported only when it runs, so that ``abs --help`` takes no time."""

from __future__ import annotations

from abs_cli.interruption import INTERRUPTED, ending_signals

with ending_signals(at_once=True):  # what follows takes a while
    import errno
    import io
    import logging
    import os
    import re
    import sys
    import traceback
    from collections.abc import Iterator, Sequence
    from contextlib import contextmanager, suppress
    from pathlib import Path
    from typing import Any

    import click

    from abs_cli.console import (
        LOG_FORMATS,
        PROGRESS_FORMS,
        LazyGroup,
        note,
        note_traceback,
        set_output,
        show_log_messages,
        wants_traceback,
    )
    from abs_cli.exit_codes import ExitCode
    from abs_cli.settings import apply_common_settings, name_sources, setting_source
    from abs_core.errors import AbsError, StorageError, UnknownNameError, UsageError
    from abs_core.extras import missing_extra
    from abs_core.files import is_file, is_folder
    from abs_core.home import Home
    from abs_core.locations import is_address
    from abs_core.text import printable

__all__ = ["cli", "main"]

#: command -> (module under abs_cli.commands, the line that `abs --help` shows)
COMMANDS = {
    "demo": ("demo", "Run the two main commands on embedded models and example images, without a model hub."),
    "gen-descriptions": ("gen_descriptions", "Write class descriptions with a language model and store a bundle."),
    "filter-descriptions": (
        "filter_descriptions",
        "Write a child version without the descriptions that do harm or have no effect.",
    ),
    "lint": ("lint", "Find problems of a bundle, or of a label set before descriptions are generated."),
    "eval": ("eval", "Classify labelled data sets with several methods, models and bundles, and print tables."),
    "attribute": ("attribution", "Say which share of a gain comes from views, descriptions and matching."),
    "robustness": (
        "robustness",
        "Measure calibration, unknown classes, and the effect of other classes, orders and images.",
    ),
    "pareto": ("pareto", "Draw what views buy: accuracy and agreement against the time an image takes."),
    "results": ("results", "List, show and compare the result files that `abs eval` writes."),
    "classify": ("classify", "Classify images, and say why."),
    "label": ("label", "Label a folder of images of any size; review the labels, and learn from corrections."),
    "features": ("features", "Write the features of images and classes to a file, for use elsewhere."),
    "bundle": ("bundle", "List, show, check, compare, change, review and share description bundles."),
    "datasets": ("datasets", "List the kinds of data sets, show a data set, or check what it lacks."),
    "models": ("models", "List, show, pull, verify, import and check image-text models and DINO."),
    "methods": ("methods", "List the methods: which views of an image are compared with which class texts, and how."),
    "cache": ("cache", "List, explain, verify and prune the cache of features."),
    "config": ("config", "Show, locate and check the configuration: files, variables, and what wins."),
    "doctor": ("doctor", "Say what runs on this machine, and what to install for the rest."),
    "completion": (
        "completion",
        "Print the script with which bash, zsh or fish completes commands, options and names.",
    ),
}


@contextmanager
def _closed_output_is_no_error() -> Iterator[None]:
    """End with 0 where the reader of the output has closed it, as `head` does; click takes that for a failure."""
    try:
        yield
    except BrokenPipeError as error:
        _discard_output()
        raise click.exceptions.Exit(0) from error


def _discard_output() -> None:
    # Python would complain again when it flushes at exit
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_WITH_VALUE = ("--home", "--cache", "--cache-size", "--log-format", "--progress")
_FLAGS = ("--quiet", "-q", "--debug")


def _common_options_first(args: Sequence[str]) -> list[str]:
    """The arguments with the options that all commands share before the command, wherever the user wrote them."""
    first, others = [], []
    rest = list(args)
    while rest and rest[0] != "--":
        arg = rest.pop(0)
        if arg in _WITH_VALUE and rest:
            first += [arg, rest.pop(0)]
        elif arg in _FLAGS or arg.startswith(tuple(f"{option}=" for option in _WITH_VALUE)):
            first.append(arg)
        else:
            others.append(arg)
    return [*first, *others, *rest]


class _Commands(LazyGroup):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[-1] in _WITH_VALUE and "--" not in args and not ctx.resilient_parsing:
            raise click.BadOptionUsage(args[-1], f"Option '{args[-1]}' requires an argument.", ctx)
        args = _common_options_first(args)
        apply_common_settings(ctx, self, args)
        with _closed_output_is_no_error():  # --help and --version print here
            rest = super().parse_args(ctx, args)
        # before the command is looked for, whose name may be wrong
        set_output(**{name: ctx.params[name] for name in ("quiet", "log_format", "progress", "debug")})
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_output_is_no_error():
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as error:  # for which click would print an empty line
                raise click.Abort from error
            except (click.ClickException, BrokenPipeError):
                raise
            except Exception as error:
                problem = _explain(error)
                if problem is None:
                    raise
                name_sources(ctx, problem)
                if problem is error:
                    raise
                raise problem from error


class _CachePlace(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if is_address(value) else super().convert(value, param, ctx)


@click.group(
    cls=_Commands,
    package="abs_cli.commands",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="abs-toolkit", prog_name="abs")
@click.option(
    "--home",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for bundles, journals and results.  [default: ~/.abs if it is there, else the system's for data]",
)
@click.option(
    "--cache",
    type=_CachePlace(file_okay=False),
    metavar="DIRECTORY|s3://BUCKET/FOLDER",
    help="Folder or bucket for the cache.  [default: cache/ in --home, or the system's for caches]",
)
@click.option(
    "--cache-size",
    metavar="SIZE",
    help="What features may take in the cache, such as 20G: the longest unused make room; 0 keeps no new ones, "
    '"none" is no limit.  [default: a fifth of the free disk]',
)
@click.option("-q", "--quiet", is_flag=True, help="On stderr only warnings and errors.")
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="text",
    show_default=True,
    help="What stderr gets: text, or JSON with one object a line.",
)
@click.option(
    "--progress",
    type=click.Choice(PROGRESS_FORMS),
    default="auto",
    show_default=True,
    help="A bar, a line every ten seconds, JSON lines, or none; auto depends on the terminal and --log-format.",
)
@click.option("--debug", is_flag=True, help="Show a traceback with every error.")
@click.pass_context
def cli(
    ctx: click.Context, /, home: Path | None, cache: str | None, cache_size: str | None, debug: bool, **_output: Any
) -> None:
    """Training-free image classification with language-model descriptions.

    Results go to stdout, everything else to stderr. The options below may stand anywhere on the line; they, and those
    of commands, may come from a file or from variables: see `abs config`.
    Exit codes: 0 done, 1 a finding, 2 an error, 3 a partial result, 130 interrupted.
    """
    ctx.obj = Home.at(home, cache, cache_size)
    ctx.meta["debug"] = debug
    show_log_messages()


def main(args: list[str] | None = None) -> None:
    """Run ``abs`` and end the process with one of ``ExitCode``."""
    # Read when torch starts its threads: on a busy machine waiting threads then leave the cores to those that compute.
    # A batch of the embedded language model was measured to take 21 s instead of 162 s so, on two cores with other
    # work on them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _make_output_encodable()
    set_output()
    if "_ABS_COMPLETE" in os.environ:
        from abs_cli.completion_shells import register_shells

        register_shells()
    try:
        with ending_signals(), _closed_output_is_no_error():
            code: Any = cli.main(args=args, prog_name="abs", standalone_mode=False)
            # what is still in the buffer can fail as every other output can
            sys.stdout.flush()
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.unraisablehook = _say_nothing  # requests that other threads have under way are cut off at exit
        code = _print_last_line(INTERRUPTED.removeprefix("abs: "), ExitCode.INTERRUPTED)
    except Exception as error:
        code = _print_error(error, args)
    _end(code if isinstance(code, int) else ExitCode.DONE)


def _say_nothing(_report: object) -> None:
    pass


def _make_output_encodable() -> None:
    """Write what the terminal's encoding does not know, such as cp1252's, as escapes instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_error(error: Exception, args: list[str] | None) -> ExitCode:
    problem = _explain(error)
    text = "".join(traceback.format_exception(error)).rstrip("\n")
    if problem is None:
        with suppress(OSError):
            note_traceback(text, logging.CRITICAL)
        return ExitCode.DEFECT
    if _wants_traceback(args):
        with suppress(OSError):
            note_traceback(text, logging.ERROR)
    return _print_last_line(f"error: {problem}", ExitCode.ERROR, problem)


def _explain(error: Exception) -> AbsError | None:
    """An error that is the user's to mend; None for one that is ours."""
    if isinstance(error, AbsError):
        return error
    if isinstance(error, click.ClickException):
        return _usage_error(error)
    if isinstance(error, ModuleNotFoundError):
        # a library of an extra that is imported where it is used
        return missing_extra(error)
    if isinstance(error, OSError):
        return _storage_error(error)
    return None


def _usage_error(error: click.ClickException) -> UsageError:
    """What click found wrong, in the words of all other errors."""
    context = getattr(error, "ctx", None)
    remedy = f"See `{context.command_path} --help`" if context is not None else ""
    if isinstance(error, click.BadParameter):
        error.param_hint = setting_source(error) or error.param_hint
    if isinstance(error, click.NoSuchOption) and context is not None:
        options = [name for option in context.command.get_params(context) for name in option.opts if name[0] == "-"]
        if (renamed := _RENAMED_OPTIONS.get(error.option_name)) in options:
            return UsageError(f"the option {error.option_name!r} is called {renamed!r} now", remedy=remedy)
        if option := _option_with_choice(context.command.get_params(context), error.option_name.lstrip("-")):
            return UsageError(f"unknown option {error.option_name!r} (did you mean {option!r}?)", remedy=remedy)
        return UnknownNameError("option", error.option_name, options, remedy=remedy)
    if isinstance(error, click.BadParameter) and error.param is not None and isinstance(error.param.type, click.Choice):
        return _wrong_choice(error, error.param, list(map(str, error.param.type.choices)), remedy)
    message = error.format_message().rstrip(".")
    if context is not None and (extra := re.fullmatch(r"Got unexpected extra argument \((.+)\)", message)):
        remedy = _remedy_of_extra(extra[1], context.command, remedy)
    message = re.sub(r"is not a valid integer( range)?$", "is not a whole number", message)
    message = re.sub(r"is not a valid float( range)?$", "is not a number", message)
    return UsageError(message[:1].lower() + message[1:], remedy=remedy)


def _option_with_choice(params: Sequence[click.Parameter], value: str) -> str | None:
    """The option that takes a value which was written as an option of its own, as in ``--latex``."""
    for param in params:
        if isinstance(param, click.Option) and isinstance(param.type, click.Choice) and value in param.type.choices:
            return f"{param.opts[0]} {value}"
    return None


def _remedy_of_extra(argument: str, command: click.Command, remedy: str) -> str:
    """A file or folder without the name of its option, such as a review without ``--read``."""
    has_file, has_folder = is_file(argument), is_folder(argument)
    names = [
        option.opts[0]
        for option in command.params
        if isinstance(option, click.Option)
        and isinstance(option.type, click.Path)
        and ((has_file and option.type.file_okay) or (has_folder and option.type.dir_okay))
    ]
    return (
        f"Write {' or '.join(names)} before it, if it is for that; {remedy[:1].lower()}{remedy[1:]}"
        if names
        else remedy
    )


# what options of a released version are called now, in the commands that have the new name
_RENAMED_OPTIONS = {
    "--key": "--keys",
    "--labels": "--label-set",
    "--licence": "--license",
    "--report-photos": "--report-images",
}


def _wrong_choice(error: click.BadParameter, param: click.Parameter, choices: Sequence[str], remedy: str) -> UsageError:
    """A value that is none of the choices, which click's message begins with."""
    quote = error.message[:1]
    value = error.message[1:].partition(f"{quote} is not one of")[0]
    source = setting_source(error)
    kind = param.opts[0] if isinstance(param, click.Option) else str(param.name).replace("_", " ")
    unknown = UnknownNameError("value" if source else kind, value, choices, remedy=remedy, at_most=len(choices))
    if source:
        unknown.message = f"{source}: {unknown.message}"
    return unknown


# a full disk or quota, a file size limit, a device that fails
_OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _storage_error(error: OSError) -> AbsError | None:
    """What no other part has explained: a path, the output, the folder of the command; None if it is none of these."""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.ENAMETOOLONG:
        name = printable(str(error.filename), 80)
        return StorageError(f"the file name {name!r} is too long", remedy="Write a shorter name")
    if error.filename is not None:
        return StorageError(
            f"cannot use {printable(str(error.filename))!r}: {reason}", remedy="Check the path and its permissions"
        )
    if error.errno == errno.ENOENT and not _has_working_folder():
        return StorageError("the working folder no longer exists", remedy="Change to another folder")
    if error.errno in _OUTPUT_FAILS:
        return StorageError(f"cannot write the output: {reason}", remedy="Free some space, or write it elsewhere")
    return None


def _has_working_folder() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _wants_traceback(args: list[str] | None) -> bool:
    arguments = sys.argv[1:] if args is None else args
    return wants_traceback() or "--debug" in arguments or os.environ.get("ABS_DEBUG", "") not in ("", "0")


def _print_last_line(line: str, code: ExitCode, error: AbsError | None = None) -> ExitCode:
    details = {} if error is None else {"error": type(error).__name__, "problem": error.message, "remedy": error.remedy}
    with suppress(OSError):
        note(f"abs: {line}", logging.ERROR, exit_code=int(code), **details)
    return code


def _end(code: int) -> None:
    """End the process, also where the output takes nothing more, which Python would complain of at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    sys.exit(code)
