"""``abs filter-descriptions``: a bundle in, a child version with fewer descriptions out, and why the rest went."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from abs_cli.console import note, progress
from abs_cli.options import ModelOptions, model_options
from abs_core.errors import UsageError
from abs_core.home import Home
from abs_core.text import json_text, printable
from abs_descriptions.bundles.lookup import find_bundle
from abs_descriptions.bundles.repository import Repository

if TYPE_CHECKING:
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.filtering import FilteredBundle, RemovedDescription

__all__ = ["command"]


_SENTENCES = ("near_duplicate", "off_topic", "nearer", "diversity", "least", "encoder")


_IMAGES = ("min_mass", "method", "views", "on_error", *ModelOptions.__dataclass_fields__)


_EXAMPLES = 3


_MASS = 0.95


# reason -> what to show of the evidence; the first number, with its sign here, says how clear a case is
_SHOWN = {
    "near duplicate": (-1, ("cosine", "neighbour")),
    "off topic": (1, ("modified-z", "class-similarity")),
    "nearer to another class": (-1, ("rival-similarity", "class-similarity", "rival")),
    "surplus": (-1, ("cosine", "neighbour")),
    "unused by the images": (1, ("mass-share",)),
}


class NumberOrOff(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number, or "off", which becomes None."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if isinstance(value, float) or value == "off":
            return value if isinstance(value, float) else None
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'off'.", param, ctx)


@click.command("filter-descriptions")
@click.argument("reference", metavar="BUNDLE")
@click.option("--keep", type=click.IntRange(min=1), metavar="K", help="At most so many descriptions of each class.")
@click.option(
    "--near-duplicate", type=NumberOrOff(), default=0.95, show_default=True, help="Cosine in a class, or off."
)
@click.option("--off-topic", type=NumberOrOff(), default=3.5, show_default=True, help="Modified z-score, or off.")
@click.option("--nearer", type=NumberOrOff(), default=0.1, show_default=True, help="Cosine to another class, or off.")
@click.option(
    "--diversity", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of --keep; 0 takes the typical."
)
@click.option("--least", type=click.IntRange(min=1), default=1, show_default=True, help="What a class is left with.")
@click.option("--encoder", default="all-MiniLM-L6-v2", show_default=True, help="sentence-transformers name or folder.")
@click.option("--images", metavar="DIR|SPEC", help="Keep what soft matching uses on these images; no labels needed.")
@click.option("--min-mass", type=click.FloatRange(0, 1, min_open=True), help="With --images: kept share.  [0.95]")
@click.option("--method", default="abs", show_default=True, help="With --images: a method with soft matching.")
@click.option("--views", type=click.IntRange(min=1), metavar="N", help="With --images: views of each kind.")
@click.option(
    "--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True, help="For bad images."
)
@click.option("--name", help="Of the child.  [default: a new version of BUNDLE]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Not into the store.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every removed description.")
@model_options
@click.pass_context
def command(
    ctx: click.Context, /, reference: str, name: str | None, out: Path | None, dry_run: bool, as_json: bool, **told: Any
) -> None:
    """Write a child version of BUNDLE without the descriptions that do harm or nothing.

    By their sentences: near-duplicates, those off the topic of their class, those nearer to another class; with --keep
    a diverse choice of the rest. By images: with --images what soft matching really uses on your own unlabelled images.
    Every removed description is kept beside the child, with the reason and what was measured.

    \b
    abs filter-descriptions birds --dry-run
    abs filter-descriptions birds --keep 20
    abs filter-descriptions birds --images ./photos --model ViT-B-16-quickgelu/openai --keep 20
    """
    from abs_cli.filtering import check_child, keep_child, spare_own_result

    home: Home = ctx.obj
    bundle = find_bundle(Repository.local(home.bundles), reference)
    _refuse_idle(ctx, _SENTENCES if told["images"] is not None else _IMAGES, told["images"] is not None)
    if not dry_run:
        check_child(home, bundle, name, out)
    filtered = _by_sentences(home, bundle, told) if told["images"] is None else _by_images(home, bundle, told)
    if out is None and name in (None, bundle.header.name):
        filtered = spare_own_result(bundle, filtered)
    child, is_new = (None, False) if dry_run else keep_child(home, bundle, filtered, name, out)
    if as_json:
        click.echo(json_text(_value(bundle, filtered, child, is_new)))
        return
    for line in _lines(bundle, filtered):
        click.echo(line)
    if child is None:
        note("dry run: nothing was written")
    elif not filtered.removed and not is_new:
        click.echo(f"{child} stays as it is")
    else:
        click.echo(child if is_new else f"{child} is there already")


def _refuse_idle(ctx: click.Context, names: tuple[str, ...], images: bool) -> None:
    """Refuse options that would do nothing."""
    for name in names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            if images:
                raise UsageError(f"{option} judges sentences, --images does not", remedy="Run the two one by one")
            raise UsageError(f"{option} needs --images", remedy="Name a folder of images with --images")


def _by_sentences(home: Home, bundle: Bundle, told: dict[str, Any]) -> FilteredBundle:
    from abs_cli.filtering import filter_sentences
    from abs_descriptions.filtering import Criteria, SentenceEncoder

    criteria = Criteria(
        **{name: told[name] for name in ("near_duplicate", "off_topic", "nearer", "keep", "diversity", "least")}
    )
    return filter_sentences(home, bundle, SentenceEncoder(told["encoder"]), criteria)


def _by_images(home: Home, bundle: Bundle, told: dict[str, Any]) -> FilteredBundle:
    from abs_classify.usage import measure_usage, open_images
    from abs_descriptions.filtering import filter_by_weight

    if told["keep"] is not None and told["min_mass"] is not None:
        raise UsageError("--keep and --min-mass both say how much stays", remedy="Give one of them")
    share = _MASS if told["keep"] is None and told["min_mass"] is None else told["min_mass"]
    images = open_images(told["images"])
    options = ModelOptions(**{name: told[name] for name in ModelOptions.__dataclass_fields__})
    classifier = options.classifier(home, bundle.label_space(), method=told["method"], views=told["views"])
    usage = measure_usage(classifier, images, on_error=told["on_error"], progress=progress)
    for skipped in usage.skipped:
        note(f"skipped {skipped.name}: {skipped.reason}")
    return filter_by_weight(
        bundle, usage.weights, keep=told["keep"], share=share, model=usage.model, parameters=usage.parameters
    )


def _lines(bundle: Bundle, filtered: FilteredBundle) -> Iterator[str]:
    """What was removed and why, for a terminal."""
    names = bundle.header.label_set.names
    counts = _per_class(filtered)
    fewest = min(counts, key=lambda class_id: counts[class_id])
    total = len(filtered.kept) + len(filtered.removed)
    yield f"{bundle.reference}"
    yield (
        f"{len(filtered.kept)} of {total} descriptions stay; fewest of a class: "
        f"{counts[fewest]} of {printable(names[fewest])}"
    )
    if filtered.spared:
        yield f"{filtered.spared} would have gone and stay, so that their class keeps enough"
    if not filtered.removed:
        return
    yield f"\n{'reason':<26}{'removed':>8}{'classes':>9}"
    for reason in _SHOWN:
        gone = [one for one in filtered.removed if one.reason.value == reason]
        if gone:
            yield f"{reason:<26}{len(gone):>8}{len({one.record.class_id for one in gone}):>9}"
        for one in sorted(gone, key=_mildness)[:_EXAMPLES]:
            yield f"  {printable(names[one.record.class_id])}: {printable(one.record.text, 90)} [{_why(one)}]"
    yield ""


def _mildness(one: RemovedDescription) -> float:
    """Small for what speaks most clearly against a description."""
    sign, keys = _SHOWN[one.reason.value]
    value = one.evidence[keys[0]]
    return sign * value if isinstance(value, (int, float)) else 0.0


def _why(one: RemovedDescription) -> str:
    _, keys = _SHOWN[one.reason.value]
    shown = {key: one.evidence[key] for key in keys}
    return ", ".join(f"{key} {printable(str(value), 60)}" for key, value in shown.items())


def _per_class(filtered: FilteredBundle) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in filtered.kept:
        counts[record.class_id] = counts.get(record.class_id, 0) + 1
    return counts


def _value(bundle: Bundle, filtered: FilteredBundle, child: str | None, is_new: bool) -> dict[str, Any]:
    return {
        "parent": bundle.reference,
        "bundle": child,
        "new": is_new,
        "filter": {"model": filtered.filter.model, "parameters": filtered.filter.parameters},
        "kept": len(filtered.kept),
        "spared": filtered.spared,
        "classes": _per_class(filtered),
        "removed": [
            {
                "class": one.record.class_id,
                "text": one.record.text,
                "reason": one.reason.value,
                "evidence": dict(one.evidence),
            }
            for one in filtered.removed
        ],
    }
