"""The entry point ``abs``. A command is imported only when it runs, so that ``abs --help`` takes no time."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from abs_cli.console import LazyGroup, show_log_messages
from abs_core.errors import AbsError, StorageError
from abs_core.extras import missing_extra
from abs_core.home import Home

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
    "results": ("results", "List, show and compare the result files that `abs eval` writes."),
    "classify": ("classify", "Classify images, and say why."),
    "bundle": ("bundle", "List, show, check, compare, change, review and share description bundles."),
    "datasets": ("datasets", "List the kinds of data sets, show a data set, or check what it lacks."),
    "models": ("models", "List, show, pull, verify and import image-text models and DINO."),
    "methods": ("methods", "List the methods: which views of an image are compared with which class texts, and how."),
    "cache": ("cache", "List, explain, verify and prune the stage cache."),
    "doctor": ("doctor", "Say what runs on this machine, and what to install for the rest."),
    "completion": ("completion", "Print the shell completion script."),
}


@contextmanager
def _closed_output_is_no_error() -> Iterator[None]:
    """End with 0 where the reader of the output has closed it, as `head` does; click takes that for a failure."""
    try:
        yield
    except BrokenPipeError as error:
        # Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(0) from error


class _Commands(LazyGroup):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _closed_output_is_no_error():  # --help and --version print here
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_output_is_no_error():
            return super().invoke(ctx)


@click.group(
    cls=_Commands,
    package="abs_cli.commands",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="abs-toolkit", prog_name="abs")
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ABS_HOME",
    help="Folder for bundles, journals and the cache.  [default: ~/.abs]",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="ABS_CACHE",
    help="Folder for the stage cache.  [default: cache/ in --home]",
)
@click.option("--debug", is_flag=True, envvar="ABS_DEBUG", help="Show a traceback with every error.")
@click.pass_context
def cli(ctx: click.Context, home: Path | None, cache: Path | None, debug: bool) -> None:
    """Training-free image classification with language-model descriptions.

    Results go to stdout, everything else to stderr. Exit code 1 is a finding, 2 a wrong input, 3 a partial bundle.
    """
    ctx.obj = Home.at(home, cache)
    ctx.meta["debug"] = debug
    show_log_messages()


def main(args: list[str] | None = None) -> None:
    """Run ``abs`` and end the process: 0 done, 1 a check failed, 2 wrong input, 130 interrupted."""
    # Read when torch starts its threads: on a busy machine waiting threads then leave the cores to those that compute.
    # A batch of the embedded language model was measured to take 21 s instead of 162 s so, on two cores with other
    # work on them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code: Any = cli.main(args=args, prog_name="abs", standalone_mode=False)
    except AbsError as error:
        if _wants_traceback(args):
            raise
        sys.exit(_print_last_line(f"error: {error}", 2))
    except ModuleNotFoundError as error:
        # a library of an extra that is imported where it is used
        missing = missing_extra(error)
        if missing is None or _wants_traceback(args):
            raise
        sys.exit(_print_last_line(f"error: {missing}", 2))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_print_last_line("interrupted; run the same command to resume", 130))
    except OSError as error:
        # of paths that the user wrote; pathlib asks for them in many places
        if error.errno != errno.ENAMETOOLONG or _wants_traceback(args):
            raise
        sys.exit(_print_last_line(f"error: {_name_too_long(str(error.filename))}", 2))
    sys.exit(code if isinstance(code, int) else 0)


def _wants_traceback(args: list[str] | None) -> bool:
    arguments = sys.argv[1:] if args is None else args
    return "--debug" in arguments or os.environ.get("ABS_DEBUG", "") not in ("", "0")


def _name_too_long(path: str) -> AbsError:
    from abs_core.text import printable

    return StorageError(f"the file name {printable(path, 80)!r} is too long", remedy="Write a shorter name")


def _print_last_line(line: str, code: int) -> int:
    from abs_core.text import printable

    click.echo("abs: " + printable(line), err=True)
    return code
