"""The values that a shell completes: names of methods, models, bundles, label sets and the rest, as they are here.

Each function is a ``shell_complete`` of click. None of them loads torch, reaches a network or fails, and only values in
the brackets behind a method load numpy: a user who presses Tab wants names at once, or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from abs_core.home import Home

__all__ = [
    "complete_attention",
    "complete_bump",
    "complete_bundle",
    "complete_bundle_name",
    "complete_command",
    "complete_control",
    "complete_dataset",
    "complete_device",
    "complete_format",
    "complete_images",
    "complete_labels",
    "complete_language_model",
    "complete_location",
    "complete_method",
    "complete_methods",
    "complete_model",
    "complete_prompts",
    "complete_provider",
    "complete_remote",
    "complete_rule",
    "complete_run",
    "complete_source",
    "complete_templates",
    "complete_variable",
]

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_DEVICES = ("auto", "cpu", "cuda")
_BUMPS = ("major", "minor", "patch")

#: Of ``abs_classify.models.attention``, which loads torch.
ATTENTION_NAMES = ("auto", "dino", "dino:", "self", "norm", "none")


def _completer(or_file: bool = False) -> Callable[[Callable[[Home], Iterable[str]]], Completer]:
    """Make a ``shell_complete`` of a function that lists names.

    Args:
        or_file: whether a path may be given instead: the shell completes one where no name fits.
    """

    def decorate(list_names: Callable[[Home], Iterable[str]]) -> Completer:
        @wraps(list_names)
        def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
            try:
                names = [name for name in list_names(_home(ctx)) if name.startswith(incomplete)]
            except Exception:  # a broken store, a missing package: whatever it is, Tab is the wrong moment for it
                names = []
            if or_file and not names:
                return [CompletionItem(incomplete, type="file")]
            return [CompletionItem(name) for name in dict.fromkeys(names)]

        return complete

    return decorate


def _home(ctx: click.Context) -> Home:
    # completion runs no callback, so nothing has made the object that commands get
    options = ctx.find_root().params
    return Home.at(options.get("home"), options.get("cache"))


def complete_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The methods of ``abs methods``, and in the brackets behind one its parameters and their values."""

    @_completer()
    def complete(_home: Home) -> Iterable[str]:
        from abs_classify.methods.names import METHOD_NAMES

        name, bracket, inner = incomplete.partition("(")
        return _settings(name, inner) if bracket else METHOD_NAMES

    return complete(ctx, param, incomplete)


def _settings(method_name: str, inner: str) -> Iterable[str]:
    """What may follow in brackets: a parameter that is not there yet, or a value of the last one and a bracket."""
    from abs_classify.methods.parameters import render_value
    from abs_classify.methods.table import METHODS

    method = METHODS[method_name]
    *given, last = _parts(inner)
    before = f"{method_name}({inner.removesuffix(last)}"
    name, equals, _ = last.partition("=")
    if not equals:
        taken = [setting.partition("=")[0].strip() for setting in given]
        return [f"{before}{other}=" for other in method.parameters if other not in taken]
    parameter = method.parameters[name.strip()]
    values = parameter.choices or (("true", "false") if parameter.type is bool else (render_value(parameter.default),))
    return [f"{before}{name}={value})" for value in values]


def _parts(text: str) -> list[str]:
    """The parts of a list as ``split_names`` has them, the last one though it may be empty."""
    from abs_classify.methods.parameters import split_names

    *given, last = split_names(f"{text}\0")
    return [*given, last.removesuffix("\0")]


def complete_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """One more method after those before the last comma that is in no brackets."""
    *given, last = _parts(incomplete)
    before = incomplete.removesuffix(last)
    items = complete_method(ctx, param, last)
    return [CompletionItem(f"{before}{item.value}") for item in items if item.value not in given]


@_completer()
def complete_model(_home: Home) -> Iterable[str]:
    """The image-text models of ``abs models ls``."""
    from abs_classify.models.registry import available_models

    return available_models()


@_completer()
def complete_bundle_name(home: Home) -> Iterable[str]:
    """The bundles of the local store, and those that ship with the toolkit."""
    return _bundle_names(home)


def _bundle_names(home: Home) -> Iterable[str]:
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import shipped_bundles

    return [*Repository.local(home.bundles).names(), *shipped_bundles()]


complete_only_bundle = _completer(or_file=True)(_bundle_names)


def complete_bundle(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of bundles, and behind NAME@ the versions of one."""
    name, at_sign, _ = incomplete.partition("@")
    if not at_sign:
        return complete_only_bundle(ctx, param, incomplete)

    @_completer(or_file=True)
    def complete_version(home: Home) -> Iterable[str]:
        from abs_descriptions.bundles.history import list_versions
        from abs_descriptions.bundles.repository import Repository

        versions = list_versions(Repository.local(home.bundles), name).versions
        return [f"{name}@{version.manifest.version}" for version in reversed(versions)]

    return complete_version(ctx, param, incomplete)


@_completer()
def complete_remote(home: Home) -> Iterable[str]:
    """The names of ``abs bundle remote ls``."""
    from abs_descriptions.bundles.remotes import Remotes

    return [remote.name for remote in Remotes(home.remotes).list()]


@_completer(or_file=True)
def complete_location(home: Home) -> Iterable[str]:
    """The names of remotes, or a folder."""
    from abs_descriptions.bundles.remotes import Remotes

    return [remote.name for remote in Remotes(home.remotes).list()]


@_completer(or_file=True)
def complete_labels(_home: Home) -> Iterable[str]:
    """The label sets that ship with the toolkit."""
    from abs_core.labels import shipped_label_sets

    return shipped_label_sets()


@_completer(or_file=True)
def complete_source(home: Home) -> Iterable[str]:
    """Bundles and label sets."""
    from abs_core.labels import shipped_label_sets
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import shipped_bundles

    return [*Repository.local(home.bundles).names(), *shipped_bundles(), *shipped_label_sets()]


def complete_dataset(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The kinds of data sets of ``abs datasets ls``, as they begin, and the paths behind one of a user's images."""
    kind, colon, place = incomplete.partition(":")

    @_completer()
    def complete(_home: Home) -> Iterable[str]:
        return [f"{kind}:{path}" for path in _paths(place)] if colon else _dataset_kinds()

    return complete(ctx, param, incomplete)


def complete_images(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The kinds of data sets, or a folder."""
    return complete_dataset(ctx, param, incomplete) or [CompletionItem(incomplete, type="file")]


def _paths(beginning: str) -> Iterable[str]:
    """The files and folders that a path may be the beginning of; hidden ones only where it names them."""
    folder, slash, name = beginning.rpartition("/")
    written = f"{folder}{slash}"
    with os.scandir(Path(written).expanduser()) as entries:
        shown = sorted(
            (entry.name, entry.is_dir())
            for entry in entries
            if entry.name.startswith(name) and (name.startswith(".") or not entry.name.startswith("."))
        )
    return [f"{written}{entry}{'/' if is_folder else ''}" for entry, is_folder in shown]


def _dataset_kinds() -> Iterable[str]:
    from abs_classify.datasets.registry import available_datasets

    return (usage.partition(":")[0] + ":" if ":" in usage else usage for usage in available_datasets())


@_completer(or_file=True)
def complete_templates(_home: Home) -> Iterable[str]:
    """The template sets that ship with the toolkit."""
    from abs_classify.methods.names import template_set_names

    return template_set_names()


@_completer(or_file=True)
def complete_prompts(_home: Home) -> Iterable[str]:
    """The prompt sets that ship with the toolkit."""
    from abs_descriptions.generation.prompts import shipped_prompt_sets

    return shipped_prompt_sets()


@_completer()
def complete_provider(_home: Home) -> Iterable[str]:
    """The backends of ``abs gen-descriptions``."""
    from abs_descriptions.generation.providers.registry import PROVIDERS

    return PROVIDERS


@_completer()
def complete_control(_home: Home) -> Iterable[str]:
    """The controls of ``abs eval``."""
    from abs_classify.methods.names import CONTROL_NAMES

    return CONTROL_NAMES


@_completer()
def complete_attention(_home: Home) -> Iterable[str]:
    """The attention backends."""
    return ATTENTION_NAMES


@_completer()
def complete_device(_home: Home) -> Iterable[str]:
    """The usual devices."""
    return _DEVICES


@_completer()
def complete_bump(_home: Home) -> Iterable[str]:
    """The numbers of a version that can rise."""
    return _BUMPS


@_completer()
def complete_format(_home: Home) -> Iterable[str]:
    """The formats of ``abs bundle import`` and ``export``."""
    from abs_descriptions.bundles.exchange import FORMATS

    return FORMATS


@_completer()
def complete_rule(_home: Home) -> Iterable[str]:
    """The rules of ``abs lint``."""
    from abs_descriptions.linting import RULES

    return RULES


@_completer(or_file=True)
def complete_language_model(_home: Home) -> Iterable[str]:
    """The language model that the toolkit brings, or a file."""
    from abs_descriptions.generation.providers.model_files import EMBEDDED

    return [EMBEDDED]


@_completer()
def complete_variable(_home: Home) -> Iterable[str]:
    """The names of the environment's variables, never what they hold."""
    return sorted(os.environ)


@_completer()
def complete_command(_home: Home) -> Iterable[str]:
    """The words of commands."""
    from abs_cli.main import cli

    return cli.list_commands(click.Context(cli))


@_completer(or_file=True)
def complete_run(home: Home) -> Iterable[str]:
    """The runs in the results folder."""
    from abs_classify.evaluation.run_folders import list_run_folders

    return ["last", *(run.name for run in list_run_folders(home.results))]
