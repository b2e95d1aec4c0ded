"""``abs bundle rewrite``: descriptions for the classes that images confuse, kept if they help."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abs_cli.completion_values import complete_bundle, complete_images, complete_method, complete_prompts
from abs_cli.console import note, note_work, progress
from abs_cli.exit_codes import ExitCode
from abs_cli.language_model import LanguageModelOptions, cost_text, estimate_text, language_model_options
from abs_cli.options import (
    ModelOptions,
    dataset_option,
    fixed_views_option,
    limit_options,
    model_options,
    open_feature_store,
    unreadable_options,
    version_option,
)
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_core.text import counted, json_text, printable

if TYPE_CHECKING:
    from abs_classify.evaluation.confusions import ImageJudge
    from abs_core.bundle_scores import NetGain
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.rewriting.candidates import RewritePlan
    from abs_descriptions.rewriting.pipeline import RewriteSummary

__all__ = ["rewrite_command"]

# pairs and descriptions that the terminal shows
_LISTED = 10

# options of the images, as ``ImageJudge.open`` takes them
_IMAGES = ("dataset", "images", "method", "views", "limit", "stratified", "on_error", "truncated")


@click.command("rewrite")
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@dataset_option()
@click.option(
    "--images",
    shell_complete=complete_images,
    metavar="DIR|SPEC",
    help="Images without labels, in place of --dataset: descriptions are only proposed.",
)
@click.option("--name", metavar="NAME", help="Name of the child.  [default: that of BUNDLE]")
@version_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    metavar="DIR",
    help="With --images: folder for the review file of what is proposed.  [default: the working folder]",
)
@click.option("--add", is_flag=True, help="With --images: add all that is proposed as a child version.")
@click.option(
    "--pairs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Maximum number of pairs of classes to ask about, the most confused first.",
)
@click.option(
    "--per-class",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Number of new descriptions wanted for each class of a pair.",
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
    "--subject",
    metavar="TEXT",
    help="What the images are of, such as 'photos of birds'.  [default: what the bundle says]",
)
@click.option(
    "--prompts",
    shell_complete=complete_prompts,
    metavar="SET",
    help="Prompt set for pairs: a shipped one, pairs or pairs-small, or a YAML file.  "
    "[default: pairs-small for smollm2, else pairs]",
)
@language_model_options(model="--language-model", seed="--text-seed", max_tokens=120)
@click.option("--dry-run", is_flag=True, help="Print the number of requests and their cost; send and write nothing.")
@click.option(
    "--method",
    default="abs",
    show_default=True,
    metavar="NAME",
    help="Method that matches images with descriptions; see `abs methods`.",
    shell_complete=complete_method,
)
@fixed_views_option
@limit_options
@unreadable_options()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@model_options
@click.pass_obj
def rewrite_command(home: Home, /, reference: str, dry_run: bool, as_json: bool, **options: Any) -> int:
    """Write descriptions for the classes of BUNDLE that images confuse, and keep them if they help.

    A language model is asked what tells the most confused pairs of classes apart, and then for descriptions of the one
    that are not true of the other. With --dataset, those that help are chosen on one half of the images; all of them
    together are tested once on the other half, and become a child version if the paired 95 % interval of their gain
    lies above 0. With --images alone no gain can be measured: a review file proposes them. Every reply is kept, so the
    same command resumes an interrupted run.

    \b
    abs bundle rewrite birds --dataset imagefolder:./val --backend openai --language-model gpt-5-mini
    abs bundle rewrite birds --images photos/ --out proposals/

    Exit codes: 0 a child version, proposals, or nothing that images confuse; 1 no gain, no version; 3 stopped by
    --max-cost or by requests that kept failing; 130 after Ctrl-C, SIGTERM or SIGHUP; 2 an error.
    """
    from abs_cli.console import Interrupts
    from abs_descriptions import RewriteOutput, estimate_rewrite, rewrite_bundle
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import find_bundle

    start = time.monotonic()
    if options["add"] and options["images"] is None:
        raise UsageError("--add needs --images", remedy="With --dataset the test decides; leave --add out")
    repository = Repository.local(home.bundles)
    bundle = find_bundle(repository, reference)
    language: LanguageModelOptions = options["language_model"]
    image_model = ModelOptions.taken_from(dict(options))
    judge = _judge(home, bundle, image_model, options)
    provider = language.provider(home, threads=image_model.threads if language.backend == "local" else None)
    inputs: dict[str, Any] = {
        "output": RewriteOutput(repository, *(options[name] for name in ("name", "version", "out", "add"))),
        "prompts": options["prompts"],
        "plan": _plan(language, options),
        "journals": home.journals,
        "prices": language.prices_of(provider.model),
    }
    if dry_run:
        estimate = estimate_rewrite(bundle, judge, provider, **inputs)
        click.echo(json_text(estimate.to_dict()) if as_json else estimate_text(estimate))
        return ExitCode.DONE
    with Interrupts() as interrupts:
        summary = rewrite_bundle(
            bundle,
            judge,
            provider,
            max_cost=language.max_cost,
            progress=progress,
            may_ask=lambda: not interrupts.requested,
            **inputs,
        )
    click.echo(json_text(summary.to_dict()) if as_json else "\n".join(_lines(summary, bundle)))
    for remark in judge.notes:
        note(f"note: {remark}")
    for skipped in judge.skipped.values():
        note(f"skipped {skipped.name}: {skipped.reason}", logging.WARNING)
    note_work(judge.work, time.monotonic() - start)
    return _exit_code(summary)


def _judge(home: Home, bundle: Bundle, model: ModelOptions, options: dict[str, Any]) -> ImageJudge:
    from abs_classify import ImageJudge

    return ImageJudge.open(
        bundle.label_space(),
        model=model.stages(home).models,
        seed=model.seed,
        batch_size=model.batch_size,
        cache=open_feature_store(home),
        progress=progress,
        **{name: options[name] for name in _IMAGES},
    )


def _plan(language: LanguageModelOptions, options: dict[str, Any]) -> RewritePlan:
    from abs_descriptions import RewritePlan

    return RewritePlan(
        **{name: options[name] for name in ("pairs", "per_class", "tries")},
        parameters=language.parameters,
        by_server=language.same_server,
        subject=options["subject"] or "",
    )


def _exit_code(summary: RewriteSummary) -> ExitCode:
    if summary.was_interrupted:
        return ExitCode.INTERRUPTED
    return {"no gain": ExitCode.FINDING, "stopped": ExitCode.PARTIAL}.get(summary.outcome.value, ExitCode.DONE)


def _lines(summary: RewriteSummary, bundle: Bundle) -> Iterator[str]:
    """What was confused, written, chosen and measured, for a terminal."""
    names = {class_id: printable(name, 60) for class_id, name in bundle.header.label_set.names.items()}
    outcome, written = summary.outcome.value, summary.written
    yield summary.reference or summary.parent
    if outcome == "no confusion":
        yield "  the images confuse no classes: nothing was asked, no version was added"
        return
    yield f"  {counted(summary.pairs, 'pair', 'pairs')} of classes confused; asked about {len(summary.confusions)}"
    for confusion in summary.confusions[:_LISTED]:
        images = counted(confusion.images, "image", "images")
        yield f"    {names[confusion.first]} / {names[confusion.second]}: {images}"
    if written is None:
        return
    kind = counted(len(summary.candidates), "new description", "new descriptions")
    yield f"  {kind} of {written.wanted} wanted; {len(summary.chosen)} chosen"
    for entry in summary.chosen[:_LISTED]:
        yield f"    {names[entry.description.class_id]}: {printable(entry.description.text, 120)}"
    yield from _measured(summary)
    yield f"  {_conclusion(summary)}"
    yield f"  {counted(written.reused, 'reply', 'replies')} from the journal; {cost_text(summary.cost)}"
    for remark in written.remarks:
        yield f"  note: {remark}"


def _measured(summary: RewriteSummary) -> Iterator[str]:
    if summary.choice is not None:
        yield f"  on the half on which they were chosen: {_gain_text(summary.choice)}"
    if summary.test is not None:
        yield f"  on the other half, tested once: {_gain_text(summary.test)}"
    if summary.test_images:
        yield (
            f"  WARNING: {counted(summary.test_images, 'image', 'images')} of the test half had tested an earlier "
            "rewriting, so the interval is too hopeful"
        )


def _gain_text(gain: NetGain) -> str:
    interval = f"[{gain.interval.low:+.1f}, {gain.interval.high:+.1f}]"
    return f"{gain.points:+.1f} points {interval}, {gain.won} won and {gain.lost} lost of {gain.images} images"


def _conclusion(summary: RewriteSummary) -> str:
    """What became of it, in words."""
    outcome, written = summary.outcome.value, summary.written
    if outcome == "kept":
        return "a new version was added" if summary.is_new else "unchanged: the store has this version already"
    if outcome == "proposed":
        return f"proposed in {', '.join(map(str, summary.files))}; no gain was measured, no version was added"
    if not summary.candidates and outcome == "no gain":
        return "no description tells two classes apart: no version was added"
    if outcome == "no gain" and summary.test is None:
        return "none wins an image on the half on which to choose: no version was added, the other half is unused"
    if outcome == "no gain":
        return "the interval does not lie above 0: no version was added"
    why = {"cost limit": "the cost limit is reached"}.get(str(written and written.stop), "interrupted")
    reason = printable(written.reason) if written and written.reason else why
    return f"STOPPED: {reason}; the same command resumes from here, and nothing was tested"
