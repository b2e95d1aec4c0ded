"""A bundle to a child version of it that holds fewer descriptions: by their sentences alone, or by what images use.

Here the two libraries meet: ``abs_classify`` says with which weight a text enters the scores of images, and
``abs_descriptions`` keeps the records that carry it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.encoding.cache import CacheKey, StageCache
from abs_classify.encoding.ranking import OnError, SkippedImage, identify
from abs_classify.encoding.stages import IdentifiedSample, Stages, UnreadableImage, shards
from abs_cli.console import note, progress
from abs_core.canonical import digest
from abs_core.errors import DatasetError, ImageError, UsageError
from abs_core.extras import require
from abs_core.files import ensure_writable, storage_errors
from abs_core.home import Home
from abs_descriptions.bundles.new_versions import add_version, child_version, find_same_version, timestamp
from abs_descriptions.bundles.repository import shipped_bundles

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from abs_classify.datasets import Sample
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource
    from abs_descriptions.bundles import Bundle, Generator
    from abs_descriptions.filtering import Criteria, Encoder, FilteredBundle

__all__ = [
    "ImageUse",
    "Selection",
    "check_child",
    "filter_by_images",
    "filter_sentences",
    "keep_child",
    "spare_own_result",
]


# whose versions may change an embedding
_PACKAGES = ("sentence-transformers", "transformers", "tokenizers", "torch")


@dataclass(frozen=True)
class ImageUse:
    """How a filter asks images which descriptions they use.

    Args:
        images: a folder of images, at any depth, or a data set as `abs datasets ls` writes it; labels are not read.
        method: a method with soft matching.
        views: of each kind; None for the method's own number.
        on_error: whether an image that cannot be read stops the run.
    """

    images: str
    method: str = "abs"
    views: int | None = None
    on_error: OnError = "stop"


@dataclass(frozen=True)
class Selection:
    """How much of each class stays: at most ``keep`` descriptions, or those that hold ``share`` of its mass."""

    keep: int | None = None
    share: float | None = None


def filter_sentences(home: Home, bundle: Bundle, encoder: Encoder, criteria: Criteria) -> FilteredBundle:
    """Judge the descriptions of a bundle by their sentence embeddings, which the stage cache remembers.

    Raises:
        as ``filter_records``; CacheError: the cache cannot be used.
    """
    from abs_descriptions.filtering import encoded_texts, filter_records

    texts = encoded_texts(bundle)
    unique = sorted(set(texts))
    cache = StageCache(home.cache)
    packages = {name: _version(name) for name in _PACKAGES}
    key = CacheKey("sentence-embeddings", 1, {"encoder": encoder.digest, "texts": digest(unique), "packages": packages})
    found = cache.load(key)
    if found is None:
        cache.require_writable()
        found = {"vectors": encoder.encode(unique)}
        cache.store(key, found)
    position = {text: at for at, text in enumerate(unique)}
    return filter_records(bundle, encoder, criteria, found["vectors"][[position[text] for text in texts]])


def filter_by_images(stages: Stages, bundle: Bundle, use: ImageUse, selection: Selection) -> FilteredBundle:
    """Keep the descriptions whose weight enters the class scores of the images.

    Args:
        stages: the cached stages; a run over the same images and views encodes nothing anew.
        bundle: the parent.
        use: the images, and how they are looked at.
        selection: how much stays.

    Raises:
        UsageError: a method without soft matching, or a class without a description.
        DatasetError: no image.
        ImageError: an image cannot be read and ``on_error`` is "stop", or none could be.
        UnknownNameError, BundleError, ModelError: what is named cannot be used.
    """
    from abs_classify.methods.scoring import SoftMatch
    from abs_descriptions.filtering import filter_by_weight

    method = _method(use)
    assert isinstance(method.scorer, SoftMatch)  # _method refuses any other
    table = _texts(method, bundle)
    photos, skipped = identify(_items(use.images), stages.models.memo, use.on_error)
    mass, used = _mass(stages, [one for one in photos if one is not None], method, table, use.on_error, skipped)
    for one in skipped:
        note(f"skipped {one.name}: {one.reason}")
    if not used:
        raise ImageError("none of the images could be read", remedy="See the reasons with --on-error stop")
    facts = stages.models.facts
    return filter_by_weight(
        bundle,
        mass.tolist(),
        keep=selection.keep,
        share=selection.share,
        model=stages.models.name,
        parameters={
            "images": len(used),
            "images_digest": digest(sorted(used)),
            "views": sum(view.count for view in method.views),
            "method": method.key(),
            "seed": stages.seed,
            "tower_digest": facts.model,
            "attention_digest": facts.attention,
            "texts_digest": table.digest,
        },
    )


def keep_child(
    home: Home, parent: Bundle, filtered: FilteredBundle, name: str | None, out: Path | None
) -> tuple[str, bool]:
    """Write the child version: to a file, or as a new version in the store.

    A child that the store has already, of the same parent and by the same criteria, gets no second version: what was
    lost of it is put back, and stderr says if it was yanked. Nor is there a new version of the parent that would lack
    nothing.

    Args:
        home: has the store.
        parent: what was filtered.
        filtered: what stays and goes.
        name: of the child; None: the parent's.
        out: a file; None: the store.

    Returns:
        The pinned reference, and whether it was written now.
    """
    from abs_descriptions.bundles.repository import BundleStore
    from abs_descriptions.filtering import write_child

    store = BundleStore(home.bundles)
    chosen = parent.header.name if name is None else name
    following = child_version(store, chosen, [parent.header])

    def write(path: Path, number: str, created: str) -> Bundle:
        return write_child(path, parent, filtered, name=chosen, version=number, created=created)

    if out is not None:
        return write(out, following, timestamp()).reference, True
    if not filtered.removed and chosen == parent.header.name:
        return parent.reference, False
    again = find_same_version(store, chosen, len(filtered.kept), write)
    if again is not None:
        return str(again), False
    versions = {entry.version for entry in store.list(parent.header.name)}
    if parent.path in shipped_bundles().values() and parent.header.version not in versions:
        store.add(parent.path)  # so that child and parent can be pushed together
    return str(add_version(store, lambda path: write(path, following, timestamp()))), True


def spare_own_result(bundle: Bundle, filtered: FilteredBundle) -> FilteredBundle:
    """Take nothing from a bundle that is what a filter of the same criteria left, if nothing was done to it since.

    What is left is less alike than what there was, so the same criteria may take more of it, and more again.
    """
    header = bundle.header
    last = header.generators[-1] if header.generators else None
    # A review is a generator after the filter; a merge has several parents and may bring back what the filter took.
    if last is None or len(header.parents) != 1 or _criteria(last) != _criteria(filtered.filter):
        return filtered
    kept = tuple(bundle.records())
    keep = last.parameters.get("keep")
    if isinstance(keep, int) and max(Counter(record.class_id for record in kept).values(), default=0) > keep:
        return filtered
    return replace(filtered, kept=kept, removed=(), spared=0)


def _criteria(filter_: Generator) -> tuple[str, str, dict[str, Any]]:
    """What a filter was told; the digest of the texts says what it was applied to."""
    told = {name: value for name, value in filter_.parameters.items() if name != "texts_digest"}
    return filter_.backend, filter_.model, told


def check_child(home: Home, parent: Bundle, name: str | None, out: Path | None) -> None:
    """Find out before any work whether ``keep_child`` could write.

    Raises:
        UsageError: a name that cannot be one, or a file that is the parent itself.
        StorageError: the store, or the folder of the file, cannot be written.
    """
    from abs_descriptions.bundles.repository import BundleStore

    child_version(BundleStore(home.bundles), parent.header.name if name is None else name, [parent.header])
    ensure_writable(home.root if out is None else out.absolute().parent)
    if out is not None:
        with storage_errors(out, "write"):
            if out.exists() and out.samefile(parent.path):
                raise UsageError(f"--out {str(out)!r} is the bundle to be filtered", remedy="Name another file")


def _method(use: ImageUse) -> Method:
    from abs_classify.methods.scoring import SoftMatch
    from abs_classify.methods.table import METHODS, get_method
    from abs_classify.methods.views import FullImage

    method = get_method(use.method)
    if not isinstance(method.scorer, SoftMatch):
        soft = ", ".join(name for name, row in METHODS.items() if isinstance(row.scorer, SoftMatch))
        raise UsageError(f"the method {use.method!r} has no soft matching, so no mass", remedy=f"Choose one of {soft}")
    if use.views is None:
        return method
    counted = (v if isinstance(v, FullImage) else replace(v, count=use.views) for v in method.views)
    return replace(method, views=tuple(counted))


def _texts(method: Method, bundle: Bundle) -> ClassTexts:
    """The texts of the method, one for each record of the bundle, in file order."""
    from abs_classify.methods.class_texts import ClassTextInputs

    space = bundle.label_space()
    return method.texts.build(ClassTextInputs(space.names, space.descriptions))


def _items(images: str) -> Sequence[Sample]:
    from abs_classify.datasets import Sample, open_dataset
    from abs_classify.datasets.folders import images_below

    items: Sequence[Sample]
    if Path(images).is_dir():
        items = [Sample(path, "") for path in images_below(Path(images))]
    else:
        items = open_dataset(images).samples
    if not items:
        raise DatasetError(f"there are no images in {images!r}", remedy="Check the folder")
    return items


def _mass(
    stages: Stages,
    photos: Sequence[IdentifiedSample],
    method: Method,
    table: ClassTexts,
    on_error: OnError,
    skipped: list[SkippedImage],
) -> tuple[NDArray[np.float64], list[str]]:
    """The mass of each text [M] over all views of all photos, shard by shard, and the ids of the photos used."""
    numpy = require("numpy")
    mass: NDArray[np.float64] = numpy.zeros(len(table.texts))
    used: list[str] = []
    with progress("matching", len(photos), "images") as advance:
        for shard in shards(photos):
            good = list(shard)
            while good:
                try:
                    features = stages.views(good, method.views)
                except UnreadableImage as bad:
                    if on_error == "stop":
                        remedy = bad.error.remedy or "Remove it"
                        raise ImageError(bad.error.message, remedy=f"{remedy}, or use --on-error skip") from bad
                    good.remove(bad.photo)
                    skipped.append(SkippedImage.of(bad.photo.name, bad.error))
                    continue
                mass += _shard_mass(stages, method, features, table).numpy()
                used += [photo.id for photo in good]
                break
            advance(len(shard))
    return mass, used


def _shard_mass(
    stages: Stages, method: Method, features: Mapping[ViewSource, torch.Tensor], table: ClassTexts
) -> torch.Tensor:
    from abs_classify.methods.scoring import SoftMatch, all_views
    from abs_classify.methods.soft_matching import soft_usage

    assert isinstance(method.scorer, SoftMatch)
    texts = stages.texts(table)
    views = all_views(method.views_by_kind(features))
    return soft_usage(views, texts.features, texts.class_index, texts.classes, method.scorer.temperature)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
