"""``abs lint``: problems of a bundle or label set, for people and for CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abs_cli.completion_values import complete_model, complete_rule, complete_source
from abs_cli.exit_codes import ExitCode
from abs_core.errors import LabelError, UnknownNameError, UsageError
from abs_core.files import exists, is_file, is_folder, storage_errors
from abs_core.home import Home
from abs_core.text import counted, json_text, printable
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import find_bundle, is_bundle_name

if TYPE_CHECKING:
    from abs_core.labels import LabelSet
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.linting import LintOptions, LintReport

__all__ = ["command"]

# Findings of a rule that are listed in the terminal, and the characters of a text that are shown.
_LISTED, _SHOWN = 5, 90


@click.command("lint")
@click.argument("source", metavar="BUNDLE|LABELS", shell_complete=complete_source)
@click.option(
    "--label-set", "labels_only", is_flag=True, help="Check the label set of this name, even if a bundle has it too."
)
@click.option(
    "--model",
    metavar="NAME",
    help="Count tokens as this image-text model does; see `abs models`.",
    shell_complete=complete_model,
)
@click.option(
    "--min-descriptions",
    metavar="N",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Warn of a class with fewer descriptions than this.",
)
@click.option(
    "--max-ratio",
    metavar="X",
    type=click.FloatRange(min=1),
    default=2.0,
    show_default=True,
    help="Warn if a class has this many times the descriptions of another.",
)
@click.option(
    "--ignore",
    metavar="RULE",
    multiple=True,
    shell_complete=complete_rule,
    help="Ignore the findings of a rule; may be repeated.",
)
@click.option(
    "--allow",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with class names that other texts may contain, and texts to ignore, one per line.",
)
@click.option("--strict", is_flag=True, help="Exit with code 1 for warnings too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every finding.")
@click.pass_obj
def command(
    home: Home,
    /,
    source: str,
    labels_only: bool,
    model: str | None,
    min_descriptions: int,
    max_ratio: float,
    ignore: tuple[str, ...],
    allow: Path | None,
    strict: bool,
    as_json: bool,
) -> int:
    """Find problems of a bundle, or of a label set before descriptions are generated.

    The exit code is 0 without an error, 1 with one (with --strict: or with a warning), 2 for an invalid input.

    \b
    abs lint labels.txt
    abs lint birds --model ViT-B-16-quickgelu/openai --strict
    abs lint birds --ignore too-few --allow fine.txt
    abs lint "crane,mouse,kite"
    """
    from abs_descriptions.linting import LintOptions, report_refused_labels

    # A rule that does not exist is said before a model is loaded.
    options = LintOptions(min_descriptions, max_ratio, ignored=frozenset(ignore), allowed=_allowed(allow))
    try:
        checked = _open(home, source, labels_only)
    except LabelError as error:
        if "," not in source and not exists(source):
            raise
        report = report_refused_labels(source, error)
    else:
        count, limit = (None, None) if model is None else _token_counter(home, model)
        report = _lint(checked, replace(options, count_tokens=count, token_limit=limit))
    failed = report.failed(strict=strict)
    if as_json:
        click.echo(json_text({**report.to_dict(), "failed": failed}))
    else:
        for line in _lines(report):
            click.echo(line)
    return ExitCode.FINDING if failed else ExitCode.DONE


def _allowed(path: Path | None) -> frozenset[str]:
    from abs_core.labels import fold

    if path is None:
        return frozenset()
    with storage_errors(path, "read"):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"{printable(str(path), 200)!r} is not UTF-8", remedy="Save it as UTF-8") from error
    return frozenset(fold(line) for line in lines if line.strip() and not line.startswith("#"))


def _lint(checked: Bundle | LabelSet, options: LintOptions) -> LintReport:
    from abs_core.labels import LabelSet
    from abs_descriptions.linting import lint_bundle, lint_labels

    return lint_labels(checked, options) if isinstance(checked, LabelSet) else lint_bundle(checked, options)


def _open(home: Home, source: str, labels_only: bool) -> Bundle | LabelSet:
    from abs_core.labels import read_labels

    if not source.strip():
        raise UsageError("the name of what to check is empty", remedy="Name a bundle, a label set, or class names")
    if labels_only or ("," in source and not exists(source)):
        return read_labels(source)
    if _names_bundle(home, source):
        return find_bundle(Repository.local(home.bundles), source)
    try:
        return read_labels(source)
    except UnknownNameError as error:
        raise UsageError(f"no bundle is called {source!r}; {error.message}", remedy=error.remedy) from error


def _names_bundle(home: Home, source: str) -> bool:
    suffix = Path(source).suffix
    if suffix in (".txt", ".csv", ".json"):
        return False
    # A folder with the name of a bundle is written ./NAME.
    return is_bundle_name(Repository.local(home.bundles), source) or (
        not is_folder(source) and (suffix == ".jsonl" or is_file(source) or "@" in source)
    )


def _token_counter(home: Home, model: str) -> tuple[Callable[[str], int], int]:
    """The token counter of an image-text model, and its limit."""
    from abs_cli.options import ModelOptions

    options = ModelOptions(
        model, attention="none", device="cpu", dtype="float32", runtime="auto", batch_size=1, seed=0, threads=None
    )
    loaded = options.stages(home).models.model
    return loaded.count_tokens, loaded.context_length


def _lines(report: LintReport) -> Iterator[str]:
    from abs_descriptions.linting import RULES

    yield printable(report.source)
    for rule in dict.fromkeys(finding.rule for finding in report.findings):
        findings = [finding for finding in report.findings if finding.rule == rule]
        severity, meaning = RULES[rule]
        yield f"\n{severity}: {rule} ({len(findings)}): {meaning}"
        for finding in findings[:_LISTED]:
            text = "" if finding.text is None else f": {printable(finding.text, _SHOWN)}"
            yield f"  {printable(finding.message)}{text}"
        if len(findings) > _LISTED:
            yield f"  and {len(findings) - _LISTED} more; --json lists all"
    if report.silenced:
        yield f"\nleft out as asked: {counted(report.silenced, 'finding', 'findings')}"
    if report.findings:
        yield f"\n{counted(report.errors, 'error', 'errors')}, {counted(report.warnings, 'warning', 'warnings')}"
    else:
        yield "nothing found"
