"""``abs filter-descriptions``: from a bundle to a child version with fewer descriptions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from abs_cli.completion_values import complete_bundle, complete_images, complete_method
from abs_cli.console import note, note_work, progress, warn
from abs_cli.options import (
    ModelOptions,
    model_options,
    open_feature_store,
    unreadable_options,
    version_option,
)
from abs_core.errors import MissingExtraError, UsageError
from abs_core.extras import require_installed
from abs_core.home import Home
from abs_core.text import json_text, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from abs_classify.usage import DescriptionUsage
    from abs_descriptions.bundles import Bundle
    from abs_descriptions.filtering.bundle_filters import (
        FilteredBundle,
        FilterResult,
        RemovedDescription,
        SentenceFilter,
        TextFilter,
    )

__all__ = ["command"]

_SENTENCES = ("near_duplicate", "off_topic", "nearer", "diversity", "least", "encoder")
_EMBEDDINGS = ("off_topic", "nearer", "keep", "diversity", "least")
_IMAGES = ("min_mass", "method", "views", "on_error", "truncated", *ModelOptions.__dataclass_fields__)
_EXAMPLES = 3
_MASS = 0.95

# reason -> the evidence to show; its first number, with this sign, orders the examples, the clearest case first
_SHOWN = {
    "duplicate": (1, ("neighbour",)),
    "near duplicate": (-1, ("cosine", "jaccard", "neighbour")),
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
@click.argument("reference", metavar="BUNDLE", shell_complete=complete_bundle)
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="K",
    help="Keep at most K descriptions of each class: a diverse choice or, with --images, those used most.",
)
@click.option(
    "--near-duplicate",
    metavar="X|off",
    type=NumberOrOff(),
    default=0.95,
    show_default="0.95; by text 0.8",
    help="Remove near-duplicates in a class: descriptions with this cosine, or similarity of texts, or more; or off.",
)
@click.option(
    "--off-topic",
    metavar="X|off",
    type=NumberOrOff(),
    default=3.5,
    show_default=True,
    help="Remove descriptions off the topic of their class: modified z-scores below minus this number; or off.",
)
@click.option(
    "--nearer",
    metavar="X|off",
    type=NumberOrOff(),
    default=0.1,
    show_default=True,
    help="Remove descriptions whose cosine to another class exceeds that to their own by this number; or off.",
)
@click.option(
    "--diversity",
    metavar="X",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Diversity of the choice that --keep makes; 0 chooses the most typical descriptions.",
)
@click.option(
    "--least",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Keep at least this number of descriptions of each class.",
)
@click.option(
    "--encoder",
    metavar="NAME",
    help="Sentence encoder: the name or the folder of a sentence-transformers model; onnx:NAME runs it without torch; "
    "text compares characters alone, for copies and near-duplicates.  [default: all-MiniLM-L6-v2; text where neither "
    "sentence-transformers nor onnxruntime is installed]",
)
@click.option(
    "--images",
    shell_complete=complete_images,
    metavar="DIR|SPEC",
    help="Keep the descriptions that soft matching uses on these images; no labels needed.",
)
@click.option(
    "--min-mass",
    metavar="X",
    type=click.FloatRange(0, 1, min_open=True),
    help="With --images: share of the usage weight of a class to keep.  [default: 0.95]",
)
@click.option(
    "--method",
    default="abs",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_method,
    help="With --images: method with soft matching; see `abs methods`.",
)
@click.option(
    "--views",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --images: number of views of each kind.  [default: the method's own]",
)
@unreadable_options("With --images: stop at an image that cannot be read, or skip and name it.")
@click.option("--name", metavar="NAME", help="Name of the child.  [default: a new version of BUNDLE]")
@version_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the child to this file, not to the store.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every removed description.")
@model_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    reference: str,
    name: str | None,
    version: str | None,
    out: Path | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write a child version of BUNDLE without the descriptions that do harm or have no effect.

    By default sentences are compared: near duplicates, descriptions off the topic of their class and those nearer to
    another class are removed; --keep makes a diverse choice of the rest. Without a sentence encoder, only copies and
    near duplicates are, by their text. With --images, the descriptions stay that soft matching uses on your own
    unlabelled images. Every removed description is stored beside the child, with the reason and what was measured.

    \b
    abs filter-descriptions birds --dry-run
    abs filter-descriptions birds --keep 20
    abs filter-descriptions birds --images ./photos --model ViT-B-16-quickgelu/openai --keep 20
    """
    from abs_descriptions import filter_bundle
    from abs_descriptions.bundles.repository import Repository
    from abs_descriptions.bundles.versions import find_bundle
    from abs_descriptions.filtering.bundle_filters import FilterOutput

    start = time.monotonic()
    home: Home = ctx.obj
    by_images = options["images"] is not None
    _refuse_idle(ctx, _SENTENCES if by_images else _IMAGES, by_images)
    if by_images:
        require_installed("numpy", extra="classify")
    bundle = find_bundle(Repository.local(home.bundles), reference)
    usages: list[DescriptionUsage] = []
    result = filter_bundle(
        bundle,
        (lambda bundle: _by_images(home, bundle, options, usages)) if by_images else _text_judge(ctx, home, options),
        FilterOutput(Repository.local(home.bundles), name, out, version),
        dry_run=dry_run,
    )
    if as_json:
        click.echo(json_text(_value(bundle, result)))
    else:
        _print_result(bundle, result)
    for usage in usages:
        note_work(usage.work, time.monotonic() - start)


def _print_result(bundle: Bundle, result: FilterResult) -> None:
    for line in _lines(bundle, result.filtered):
        click.echo(line)
    if result.reference is None:
        note("dry run: nothing was written")
    elif not result.filtered.removed and not result.is_new:
        click.echo(f"{result.reference} is unchanged")
    else:
        click.echo(result.reference if result.is_new else f"{result.reference} exists already")


def _refuse_idle(ctx: click.Context, names: tuple[str, ...], images: bool) -> None:
    """Refuse options that would do nothing."""
    for option in _given(ctx, names):
        if images:
            raise UsageError(f"{option} and --images exclude each other", remedy="Filter twice, once with each")
        raise UsageError(f"{option} needs --images", remedy="Name a folder of images with --images")


def _given(ctx: click.Context, names: tuple[str, ...]) -> list[str]:
    """Those of the options that the user gave, as they are typed."""
    return [
        "--" + name.replace("_", "-") for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]


class _StoredEmbeddings:
    """Sentence embeddings in the feature store: an ``EmbeddingCache``."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def embeddings(
        self,
        inputs: Mapping[str, Any],
        texts: Sequence[str],
        compute: Callable[[Sequence[str]], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        import numpy as np

        from abs_classify.encoding.spaces import Segment, Space, text_id

        store = open_feature_store(self._home)
        space, ids = Space("sentence-embeddings", 2, inputs), [text_id(text) for text in texts]
        rows = store.load(space, ids, 1)
        missing = [position for position, row in enumerate(rows) if row is None]
        if missing:
            store.require_writable()
            for position, row in zip(missing, compute([texts[position] for position in missing]), strict=True):
                rows[position] = row[None]
            segments = [(ids[position], rows[position]) for position in missing]
            store.append(space, [Segment(text, 0, row) for text, row in segments if row is not None])
        return np.concatenate([row for row in rows if row is not None])


def _text_judge(ctx: click.Context, home: Home, options: dict[str, Any]) -> SentenceFilter | TextFilter:
    """The filter by embeddings or, where it is asked for or nothing else is installed, by text alone."""
    from abs_descriptions.filtering.bundle_filters import SentenceFilter, TextFilter
    from abs_descriptions.filtering.criteria import Criteria, TextCriteria
    from abs_descriptions.filtering.encoder_choice import (
        TEXT_ALONE,
        has_encoder_runtime,
        install_encoder,
        open_encoder,
    )
    from abs_descriptions.filtering.encoders import EMBEDDED_ENCODER

    name = options["encoder"]
    if name == TEXT_ALONE or (name is None and not has_encoder_runtime()):
        for option in _given(ctx, _EMBEDDINGS):
            if name == TEXT_ALONE:
                raise UsageError(f"{option} needs a sentence encoder, which 'text' is not", remedy=f"Drop {option}")
            missing = MissingExtraError("onnxruntime", "filter-light", f"for {option}")
            missing.remedy = install_encoder()
            raise missing
        if name is None:
            note(
                "note: no sentence encoder is installed, so only copies and near-duplicates are found, by their text. "
                f"{install_encoder()}"
            )
        return TextFilter(
            TextCriteria(options["near_duplicate"]) if _given(ctx, ("near_duplicate",)) else TextCriteria()
        )
    criteria = Criteria(
        **{name: options[name] for name in ("near_duplicate", "off_topic", "nearer", "keep", "diversity", "least")}
    )
    return SentenceFilter(criteria, open_encoder(name or EMBEDDED_ENCODER), _StoredEmbeddings(home))


def _by_images(home: Home, bundle: Bundle, given: dict[str, Any], usages: list[DescriptionUsage]) -> FilteredBundle:
    """The filtered bundle; what was measured is added to ``usages``."""
    from abs_classify.usage import measure_usage, open_images
    from abs_descriptions.filtering.bundle_filters import filter_by_weight

    if given["keep"] is not None and given["min_mass"] is not None:
        raise UsageError("--keep and --min-mass exclude each other", remedy="Give one of them")
    share = _MASS if given["keep"] is None and given["min_mass"] is None else given["min_mass"]
    images = open_images(given["images"])
    options = ModelOptions(**{name: given[name] for name in ModelOptions.__dataclass_fields__})
    classifier = options.classifier(home, bundle.label_space(), method=given["method"], views=given["views"])
    usage = measure_usage(
        classifier, images.samples, on_error=given["on_error"], truncated=given["truncated"], progress=progress
    )
    usages.append(usage)
    for remark in images.remarks:
        warn(f"{remark}")
    for skipped in usage.skipped:
        note(f"skipped {skipped.name}: {skipped.reason}", logging.WARNING)
    for remark in usage.remarks:
        note(f"note: {remark}")
    return filter_by_weight(
        bundle, usage.weights, keep=given["keep"], share=share, model=usage.model, parameters=usage.parameters
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
    if filtered.protected:
        yield f"{filtered.protected} failed a criterion and stay, so that their class keeps its minimum"
    if not filtered.removed:
        return
    yield f"\n{'reason':<26}{'removed':>8}{'classes':>9}"
    for reason in _SHOWN:
        removed = [removal for removal in filtered.removed if removal.reason.value == reason]
        if removed:
            yield f"{reason:<26}{len(removed):>8}{len({removal.record.class_id for removal in removed}):>9}"
        for removal in sorted(removed, key=_mildness)[:_EXAMPLES]:
            name, text = printable(names[removal.record.class_id]), printable(removal.record.text, 90)
            yield f"  {name}: {text} [{_evidence(removal)}]"
    yield ""


def _mildness(removal: RemovedDescription) -> float:
    """The smaller, the clearer the case against a description."""
    sign, keys = _SHOWN[removal.reason.value]
    numbers = (removal.evidence.get(key) for key in keys)
    return next((sign * value for value in numbers if isinstance(value, (int, float))), 0.0)


def _evidence(removal: RemovedDescription) -> str:
    _, keys = _SHOWN[removal.reason.value]
    shown = {key: removal.evidence[key] for key in keys if key in removal.evidence}
    return ", ".join(f"{key} {printable(str(value), 60)}" for key, value in shown.items())


def _per_class(filtered: FilteredBundle) -> dict[str, int]:
    counts: dict[str, int] = {}
    for record in filtered.kept:
        counts[record.class_id] = counts.get(record.class_id, 0) + 1
    return counts


def _value(bundle: Bundle, result: FilterResult) -> dict[str, Any]:
    filtered = result.filtered
    return {
        "parent": bundle.reference,
        "bundle": result.reference,
        "new": result.is_new,
        "filter": {"model": filtered.filter.model, "parameters": filtered.filter.parameters},
        "kept": len(filtered.kept),
        "spared": filtered.protected,
        "classes": _per_class(filtered),
        "removed": [
            {
                "class": removal.record.class_id,
                "text": removal.record.text,
                "reason": removal.reason.value,
                "evidence": dict(removal.evidence),
            }
            for removal in filtered.removed
        ],
    }
