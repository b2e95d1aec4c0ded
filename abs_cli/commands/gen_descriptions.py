"""``abs gen-descriptions``: class names in, a bundle of descriptions out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.completion_values import complete_labels, complete_model, complete_prompts
from abs_cli.exit_codes import ExitCode
from abs_cli.language_model import cost_text, estimate_text, language_model_options
from abs_cli.options import license_option, version_option
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_core.text import counted, json_text, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from abs_descriptions.generation.cleaning import CleaningRules
    from abs_descriptions.generation.plan import ClassReport
    from abs_descriptions.generation.report import GenerationSummary
    from abs_descriptions.generation.runner import GenerationPlan, GenerationResult

__all__ = ["command"]

_FILE = click.Path(dir_okay=False, path_type=Path)

# Classes with too few descriptions that are listed in the terminal.
_LISTED = 10


@click.command("gen-descriptions")
@click.argument("labels", metavar="LABELS", shell_complete=complete_labels)
@click.option(
    "--name",
    required=True,
    metavar="NAME",
    help="Name of the bundle; an existing bundle gets a new version if anything changed.",
)
@version_option
@language_model_options(model="--model", seed="--seed", max_tokens=60)
@click.option(
    "--prompts",
    default="auto",
    show_default=True,
    metavar="SET",
    shell_complete=complete_prompts,
    help="Prompt set: the id of a shipped set, a YAML file, or auto: objects-small for smollm2, else objects.",
)
@click.option(
    "--per-class",
    metavar="N",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of descriptions wanted for each class.",
)
@click.option(
    "--tries",
    metavar="N",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Maximum number of samples for each description that is wanted.",
)
@click.option(
    "--naming",
    type=click.Choice(["require", "prefix"]),
    default="require",
    show_default=True,
    help="Reject a sentence without its class name, or put the name and a colon in front.",
)
@click.option(
    "--fit-model",
    metavar="NAME",
    help="Reject texts too long for this image-text model; see `abs models`.",
    shell_complete=complete_model,
)
@click.option("--dry-run", is_flag=True, help="Print the number of requests and their cost; send and write nothing.")
@click.option("--report", type=_FILE, metavar="FILE", help="Write a .csv or .json file with a row for each class.")
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(min=1),
    help="Number of prompts that a local model runs together, or of requests in one batch file.",
)
@click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1, 1024),
    help="Number of CPU threads of a local model.  [default: all cores]",
)
@license_option(
    default="not stated",
    show_default=True,
    metavar="SPDX",
    help="License of the descriptions.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(home: Home, /, labels: str, name: str, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Write descriptions for the classes in LABELS and store them as a bundle.

    LABELS is a file of class names (text, CSV, JSON, YAML), a folder with one subfolder per class, 'cat,dog,car', or
    the name of a shipped label set. Every reply is kept, so the same command resumes an interrupted run.

    \b
    abs gen-descriptions labels.txt --name pets
    abs gen-descriptions labels.txt --name pets --backend openai --model gpt-5-mini --dry-run

    \b
    Label sets that ship with the toolkit:
      caltech101, cifar10, cifar100, cub-200-2011, demo, dtd, eurosat, fgvc-aircraft, flowers102, food101, imagenet,
      imagenet-a, imagenet-r, pets, places365, stanford-cars, sun397, ucf101
    Prompt sets:
      actions, animals, descriptors, descriptors-json, food, objects, objects-small, satellite, scenes, textures,
      vehicles

    Exit codes: 0 complete, 3 a partial bundle (--max-cost was reached, requests kept failing in the same way, or a
    class has fewer than --per-class), 130 a partial bundle after Ctrl-C, SIGTERM or SIGHUP, 2 an error.
    """
    from abs_cli.console import Interrupts, progress
    from abs_core.labels import read_labels
    from abs_descriptions import estimate_cost, generate
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import child_version

    if dry_run and options["report"] is not None:
        raise UsageError("--report and --dry-run exclude each other", remedy="Leave one of them out")
    label_set, model = read_labels(labels), options["language_model"]
    repository = Repository.local(home.bundles)
    child_version(repository, name, chosen=options["version"])  # refused before the work that follows
    provider = model.provider(home, batch_size=options["batch_size"], threads=options["threads"])
    inputs: dict[str, Any] = {
        "prompts": None if options["prompts"] == "auto" else options["prompts"],
        "plan": _plan(home, options, keep_derived=not dry_run),
        "journals": home.journals,
        "prices": model.prices_of(provider.model),
    }
    if dry_run:
        estimate = estimate_cost(label_set, name, provider, **inputs)
        click.echo(json_text(estimate.to_dict()) if as_json else estimate_text(estimate))
        return ExitCode.DONE
    with Interrupts() as interrupts:
        summary = generate(
            label_set,
            name,
            provider,
            output=repository,
            max_cost=model.max_cost,
            license=options["license_name"],
            **{option: options[option] for option in ("report", "version")},
            progress=progress,
            may_ask=lambda: not interrupts.requested,
            **inputs,
        )
    if summary.reference is None:
        raise KeyboardInterrupt  # there is nothing but the journal
    click.echo(json_text(summary.to_dict()) if as_json else _summary_text(summary, options["version"]))
    return _exit_code(summary.result)


def _plan(home: Home, options: Mapping[str, Any], *, keep_derived: bool) -> GenerationPlan:
    from abs_descriptions.generation.runner import GenerationPlan

    return GenerationPlan(
        per_class=options["per_class"],
        tries=options["tries"],
        parameters=options["language_model"].parameters,
        rules=_rules(home, options, keep_derived=keep_derived),
        by_server=options["language_model"].same_server,
    )


def _rules(home: Home, options: Mapping[str, Any], *, keep_derived: bool) -> CleaningRules:
    """The cleaning rules; with the token limit of an image-text model if one is named."""
    from abs_descriptions.generation.cleaning import CleaningRules

    naming, model = options["naming"], options["fit_model"]
    if model is None:
        return CleaningRules(naming=naming)
    from abs_classify.models.registry import load_model, local_names
    from abs_classify.models.store import WeightsStore
    from abs_cli.console import note

    note(f"loading {model}")
    local = local_names(WeightsStore(home.models), model, "none")[0]
    loaded = load_model(local, device="cpu", derived=home.cache / "derived" if keep_derived else None)
    return CleaningRules(naming=naming, count_tokens=loaded.count_tokens, token_limit=loaded.context_length)


def _exit_code(result: GenerationResult) -> ExitCode:
    if result.complete:
        return ExitCode.DONE
    return ExitCode.INTERRUPTED if result.stop in ("interrupted", "told to stop") else ExitCode.PARTIAL


def _summary_text(summary: GenerationSummary, version: str | None) -> str:
    """The reference, what was kept, and why the rest was not."""
    from abs_descriptions.generation.report import rejection_counts

    result = summary.result
    fewest = min(result.report, key=lambda line: line.accepted)
    replies = sum(line.asked for line in result.report)
    lines = [
        str(summary.reference),
        f"  {counted(len(result.descriptions), 'sentence', 'sentences')} of "
        f"{counted(len(result.report), 'class', 'classes')}; "
        f"fewest: {fewest.accepted} of {printable(fewest.name, 60)}",
        f"  {counted(replies, 'reply', 'replies')}, {summary.reused} of them from the journal; "
        f"rejected: {_counts(rejection_counts(result))}",
        f"  {cost_text(summary.cost)}",
    ]
    if not summary.is_new:
        lines.append("  unchanged: the store has this version already")
    if not result.complete:
        lines.append(f"  PARTIAL: {_why_partial(result, version)}")
    lines += [f"  {line}" for line in _short_classes(result)]
    lines += [f"  failed: {printable(reason)}" for reason in result.failures]
    lines += [f"  note: {remark}" for remark in result.remarks]
    return "\n".join(lines)


def _why_partial(result: GenerationResult, version: str | None) -> str:
    from abs_descriptions.bundles.references import parse_version

    if result.stop is None:
        short = counted(len(result.short), "class has", "classes have")
        why = f"{short} fewer than {result.wanted} descriptions"
        return f"{why}; {result.reason or 'more --tries, other prompts or another model may supply them'}"
    why = {"cost limit": "the cost limit is reached", "failures": printable(result.reason)}.get(
        result.stop, "interrupted"
    )
    # a number that was chosen is taken now, by the partial bundle
    command = "the same command" if parse_version(version or "") is None else "the command with another --version"
    return f"{why}; {command} resumes from here"


def _short_classes(result: GenerationResult) -> list[str]:
    """The classes with the fewest descriptions, and how many more have too few."""
    short = sorted(result.short, key=lambda line: line.accepted)
    lines = [_short_class(line, result.wanted) for line in short[:_LISTED]]
    if len(short) > _LISTED:
        lines.append(f"short: {len(short) - _LISTED} more classes; --report FILE or --json lists all")
    return lines


def _short_class(line: ClassReport, wanted: int) -> str:
    reasons = _counts({**line.rejected, **({"failed": line.failed} if line.failed else {})})
    asked = counted(line.asked, "reply", "replies")
    return f"short: {printable(line.name, 60)} has {line.accepted} of {wanted} (of {asked}: {reasons})"


def _counts(counts: Mapping[str, int]) -> str:
    """Reasons and their numbers, the most frequent first: "duplicate 7, chatty 2"."""
    ordered = sorted(counts.items(), key=lambda entry: -entry[1])
    return ", ".join(f"{reason} {count}" for reason, count in ordered) or "none"
