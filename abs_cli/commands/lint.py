"""``abs lint``: what is wrong with a bundle or label set, for people and for CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_core.errors import LabelError, UnknownNameError, UsageError
from abs_core.files import exists, is_file, is_folder
from abs_core.home import Home
from abs_core.text import counted, json_text, printable
from abs_descriptions.bundles.lookup import find_bundle, is_bundle_name
from abs_descriptions.bundles.repository import Repository

if TYPE_CHECKING:
    from abs_core.labels import ClassLabel
    from abs_descriptions.bundles import Description
    from abs_descriptions.linting import LintFinding

__all__ = ["command"]


_EXAMPLES = 5


_SHOWN = 90


@dataclass(frozen=True)
class _Source:
    """What is checked: classes, and descriptions if it is a bundle."""

    name: str
    classes: Sequence[ClassLabel]
    descriptions: Mapping[str, Sequence[Description]] | None = None


@click.command("lint")
@click.argument("source", metavar="BUNDLE|LABELS")
@click.option("--labels", "labels_only", is_flag=True, help="Take the label set, though a bundle has its name.")
@click.option("--model", metavar="NAME", help="Count tokens as this image-text model does; see `abs models`.")
@click.option("--min-descriptions", type=click.IntRange(min=1), default=5, show_default=True, help="Of each class.")
@click.option(
    "--max-ratio", type=click.FloatRange(min=1), default=2.0, show_default=True, help="Most over fewest descriptions."
)
@click.option("--strict", is_flag=True, help="Warnings count as errors for the exit code.")
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
    strict: bool,
    as_json: bool,
) -> int:
    """Find what is wrong with a bundle, or with a label set before anything is generated.

    The exit code is 0 if there is no error, 1 if there is one (with --strict: or a warning), 2 for a wrong input.

    \b
    abs lint labels.txt
    abs lint birds --model ViT-B-16-quickgelu/openai --strict
    abs lint "crane,mouse,kite"
    """
    from abs_descriptions.linting import LintFinding, LintOptions, ambiguous_names, lint

    try:
        checked = _open(home, source, labels_only)
    except LabelError as error:
        if "," not in source and not exists(source):
            raise
        checked = _Source(source, ())
        findings = [LintFinding("labels-refused", error.message)]
    else:
        count, limit = (None, None) if model is None else _counter(home, model)
        options = LintOptions(min_descriptions, max_ratio, count, limit)
        findings = lint(checked.classes, checked.descriptions, ambiguous_names(), options)
    errors = sum(finding.severity == "error" for finding in findings)
    failed = bool(errors or (strict and findings))
    if as_json:
        click.echo(json_text(_value(checked, findings, errors, failed)))
    else:
        for line in _lines(checked, findings, errors):
            click.echo(line)
    return int(failed)


def _open(home: Home, source: str, labels_only: bool) -> _Source:
    from abs_core.labels import from_names, read_labels

    if not source.strip():
        raise UsageError("nothing is named to check", remedy="Name a bundle, a label set, or class names")
    if "," in source and not exists(source):
        labels = from_names(source.split(","))
    elif labels_only:
        labels = read_labels(source)
    elif not _names_bundle(home, source):
        try:
            labels = read_labels(source)
        except UnknownNameError as error:
            raise UsageError(f"no bundle is called {source!r}; {error.message}", remedy=error.remedy) from error
    else:
        bundle = find_bundle(Repository.local(home.bundles), source)
        return _Source(bundle.reference, bundle.header.label_set.classes, bundle.descriptions())
    return _Source(f"labels {labels.name}#{labels.digest}", labels.classes)


def _names_bundle(home: Home, source: str) -> bool:
    suffix = Path(source).suffix
    if suffix in (".txt", ".csv", ".json"):
        return False
    # a folder that bears the name of a bundle is meant when it is written ./NAME
    return is_bundle_name(Repository.local(home.bundles), source) or (
        not is_folder(source) and (suffix == ".jsonl" or is_file(source) or "@" in source)
    )


def _counter(home: Home, model: str) -> tuple[Callable[[str], int], int]:
    """The image-text model's own count of tokens, and its limit."""
    from abs_cli.options import ModelOptions

    options = ModelOptions(model, attention="none", device="cpu", dtype="float32", batch_size=1, seed=0, threads=None)
    loaded = options.stages(home).models.model
    return loaded.count_tokens, loaded.context_length


def _lines(checked: _Source, findings: Sequence[LintFinding], errors: int) -> Iterator[str]:
    from abs_descriptions.linting import RULES

    yield printable(checked.name)
    for rule in dict.fromkeys(finding.rule for finding in findings):
        some = [finding for finding in findings if finding.rule == rule]
        severity, says = RULES[rule]
        yield f"\n{severity}: {rule} ({len(some)}): {says}"
        for finding in some[:_EXAMPLES]:
            text = "" if finding.text is None else f": {printable(finding.text, _SHOWN)}"
            yield f"  {printable(finding.message)}{text}"
        if len(some) > _EXAMPLES:
            yield f"  and {len(some) - _EXAMPLES} more; --json shows all"
    yield (
        f"\n{counted(errors, 'error', 'errors')}, {counted(len(findings) - errors, 'warning', 'warnings')}"
        if findings
        else "nothing found"
    )


def _value(checked: _Source, findings: Sequence[LintFinding], errors: int, failed: bool) -> dict[str, Any]:
    return {
        "source": checked.name,
        "classes": len(checked.classes),
        "descriptions": None
        if checked.descriptions is None
        else sum(len(texts) for texts in checked.descriptions.values()),
        "errors": errors,
        "warnings": len(findings) - errors,
        "failed": failed,
        "findings": [
            {
                "rule": finding.rule,
                "severity": finding.severity,
                "message": finding.message,
                "class": finding.class_id,
                "other": finding.other,
                "text": finding.text,
            }
            for finding in findings
        ],
    }
