"""Features for use elsewhere: images and classes as unit vectors, with the ids that say what each is of.

    from abs_classify import encode

    encoded = encode("photos", ["cat", "dog"], model="ViT-B-16-quickgelu/openai", cache="cache")
    encoded.features @ encoded.classes.features.T

``encode`` holds everything in memory; ``encode_batches`` gives some images at a time, and writes files of any size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from abs_classify.classifier import as_label_space, deferred_model
from abs_classify.datasets.base import Dataset, Sample
from abs_classify.encoding.feature_store import open_store
from abs_classify.encoding.last_run import write_last_run
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.samples import (
    IdentifiedSample,
    ImageInput,
    OnError,
    SkippedImage,
    UnreadableSample,
    as_sample,
    batched,
    files_only,
    identify,
    identify_others,
)
from abs_classify.encoding.spaces import PersistentStore
from abs_classify.encoding.stage_spaces import StageSpaces
from abs_classify.encoding.stages import SHARD, Stages
from abs_classify.encoding.work import WorkCounts
from abs_classify.engines.base import EncodingTask, find_engine, opened_engine
from abs_classify.feature_files import (
    ClassFeatures,
    EncodedBatch,
    SavedFeatures,
    check_target,
    warn_of_full_disk,
    write_features,
)
from abs_classify.methods.table import Method, get_method, plan_methods, with_view_count
from abs_classify.methods.views import FullImage
from abs_classify.models.deferred import DeferredModel, model_notes
from abs_classify.plugins import plugin_notes, plugin_record
from abs_classify.sharding import ShardSpec, SourceDigest, SourceShare
from abs_classify.usage import open_images
from abs_core.descriptions import Description, LabelSpace
from abs_core.errors import ImageError, UnknownNameError, UsageError
from abs_core.extras import DISTRIBUTION, installed_version
from abs_core.progress import Advance, Progress, no_progress
from abs_core.remarks import Remark, RemarkCounter
from abs_core.text import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from abs_classify.engines.base import Engine
    from abs_classify.images import Truncated
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.models.base import AttentionBackend, Model

__all__ = ["ClassRows", "EncodedBatches", "EncodedSet", "FeaturesOf", "encode", "encode_batches"]

#: what an image is turned into: the vector of the full image, the mean of a method's views, or a vector of each view
FeaturesOf: TypeAlias = Literal["full-image", "mean", "views"]

#: what a class is turned into: the mean of its texts, or a vector of each text
ClassRows: TypeAlias = Literal["mean", "each"]

#: a folder or the spec of a data set, a data set, or images
ImageSource: TypeAlias = str | Path | Dataset | Iterable[ImageInput]

ClassInputs: TypeAlias = LabelSpace | Mapping[str, Sequence[str | Description]] | Sequence[str]

# items of each space that are remembered where nothing is kept: those of the shard at hand and of the next one
_LATEST_ITEMS = 4 * SHARD

_FORMAT, _FORMAT_VERSION = "abs-features", 1


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """Features of images and classes, in memory.

    Attributes:
        features: float32 [n, d] of unit length, a row for each image in the order of the source; [n, V, d] where they
            are of views.
        ids: n ids, the sha256 of each image's bytes; copies have the same one.
        names: n paths, or what else there is to call each image by.
        labels: n class ids as the source has them; empty where it has none.
        classes: the features of the classes; None if none were given.
        info: what the features are of, as JSON values: model, views, and the spaces with all that could change a value.
        skipped: the images that could not be read.
        remarks: what was left out, guessed or scaled, counted.
        notes: what a user of the features should know.
        work: how many images, views and texts were asked for, and how many of them were computed.
    """

    features: NDArray[np.float32]
    ids: Sequence[str]
    names: Sequence[str]
    labels: Sequence[str]
    classes: ClassFeatures | None
    info: Mapping[str, Any]
    skipped: Sequence[SkippedImage]
    remarks: Sequence[Remark]
    notes: Sequence[str]
    work: WorkCounts

    def __repr__(self) -> str:
        images = counted(len(self.ids), "image", "images")
        classes = "" if self.classes is None else f", {counted(len(self.classes.features), 'class row', 'class rows')}"
        shape = " x ".join(map(str, self.features.shape))
        return f"<EncodedSet: {images}{classes}, features {shape} of {self.info['model']!r}>"

    def save(self, path: Path | str) -> SavedFeatures:
        """Write a ``.parquet``, ``.npz`` or ``.safetensors`` file, as ``EncodedBatches.save`` does."""
        batches = (
            EncodedBatch(
                self.features[start : start + SHARD],
                self.ids[start : start + SHARD],
                self.names[start : start + SHARD],
                self.labels[start : start + SHARD],
            )
            for start in range(0, len(self.ids), SHARD)
        )
        return write_features(Path(path), batches, self)


class EncodedBatches(Iterator[EncodedBatch]):
    """Features of images, some at a time, in the order of the source; memory does not grow with their number.

    Attributes:
        skipped: the images so far that could not be read, where they do not stop the run.
        notes: what a user of the features should know.
        work: how many images, views and texts so far were asked for, and how many of them were computed.
    """

    def __init__(self, request: _FeatureRequest, stages: Stages, notes: Sequence[str], engine: Engine | str) -> None:
        self._request, self._stages, self._engine = request, stages, engine
        self._remarks = RemarkCounter(request.remarks)
        self._batches = self._encode()
        self._classes: ClassFeatures | None = None
        self.skipped: list[SkippedImage] = []
        self.notes = notes
        self.work = stages.work

    def __next__(self) -> EncodedBatch:
        return next(self._batches)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was left out, guessed or scaled of the images so far, counted."""
        return self._remarks.remarks

    @property
    def classes(self) -> ClassFeatures | None:
        """The features of the classes, encoded when first asked for; None if none were given."""
        if self._classes is None and self._request.classes is not None:
            self._classes = _class_features(self._stages, self._request.classes)
        return self._classes

    @property
    def info(self) -> dict[str, Any]:
        """What the features are of, as JSON values."""
        request, models = self._request, self._stages.models
        spaces = StageSpaces(models, self._stages.seed)
        used = [spaces.view(view) for view in request.method.views]
        if request.classes is not None:
            used.append(spaces.texts)
        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "source": request.source,
            "model": models.label,
            "model_digest": models.facts.model,
            "of": request.of,
            "views": [view.key() for view in request.method.views],
            "classes": None if request.classes is None else request.classes.info,
            **({} if request.share is None else {"share": request.share.as_json()}),
            "spaces": [
                {"stage": space.stage, "version": space.version, "inputs": dict(space.inputs)} for space in used
            ],
            "toolkit": installed_version(DISTRIBUTION),
            **plugin_record(),
        }

    def save(self, path: Path | str) -> SavedFeatures:
        """Encode the images that are left and write them to a file, which appears when it is whole.

        Args:
            path: ends in ``.parquet``, ``.npz`` or ``.safetensors``; a file of that name is replaced. The classes of a
                parquet file get a file of their own beside it, ``NAME.classes.parquet``. A share of the images goes to
                the name that ``part_path`` gives.

        Raises:
            UsageError: another ending, or the file is one that the images are read from.
            MissingExtraError: pyarrow, which writes parquet, is not installed.
            StorageError: the file cannot be written; a folder that cannot be is found before anything is encoded.
            ImageError, ModelError: as in ``encode_batches``; no file is written then.
        """
        path = part_path(path, self._request.share)
        check_target(path)
        _check_not_read(path, self._request.images)
        self._warn_of_full_disk(path)
        with closing(self):
            return write_features(path, self, self)

    def _warn_of_full_disk(self, path: Path) -> None:
        """Say, before any work, that a file will not fit on its disk."""
        images = self._request.images
        if isinstance(images, Sequence):
            vectors = 1 if self._request.of != "views" else sum(view.count for view in self._request.method.views)
            warn_of_full_disk(path, 4 * len(images) * vectors * self._stages.models.facts.embed_dim)

    def collect(self) -> EncodedSet:
        """Encode the images that are left, and hold all of their features in memory."""
        import numpy as np

        with closing(self):
            batches = list(self)
        return EncodedSet(
            features=np.concatenate([batch.features for batch in batches]),
            ids=[image_id for batch in batches for image_id in batch.ids],
            names=[name for batch in batches for name in batch.names],
            labels=[label for batch in batches for label in batch.labels],
            classes=self.classes,
            info=self.info,
            skipped=self.skipped,
            remarks=self.remarks,
            notes=self.notes,
            work=self.work,
        )

    def close(self) -> None:
        """End the run: what was begun for further images is dropped."""
        self._batches.close()

    def _encode(self) -> Generator[EncodedBatch, None, None]:
        try:
            yield from self._encode_shards()
        finally:
            store = self._stages.store
            if self.work.spaces and isinstance(store, PersistentStore):
                write_last_run(store.root, self.work.space_uses())
            store.flush()

    def _encode_shards(self) -> Generator[EncodedBatch, None, None]:
        from abs_classify.encoding.ranking import ShardScorer

        request, stages = self._request, self._stages
        _ = self.classes  # before any image: here with all cores, and where Ctrl-C reaches it
        scorer = ShardScorer(stages, {}, request.on_error, also=request.method.views, partial_shards=True)
        images = request.images
        total = len(images) if isinstance(images, Sequence) else None
        encoded = 0
        with (
            (request.progress if total is not None else no_progress)("encoding", total or 0, "images") as advance,
            closing(scorer.score(self._entries(advance), ahead=total is not None)) as shards,
        ):
            if self._engine == "local" and total is not None and request.of != "full-image":
                self._announce(advance)
            for shard in shards:
                self.skipped += shard.skipped
                self._remarks.extend(shard.remarks)
                if shard.images:
                    encoded += len(shard.images)
                    yield EncodedBatch(
                        _features(stages, shard.images, request.method, request.of),
                        [image.id for image in shard.images],
                        [image.name for image in shard.images],
                        [image.sample.label for image in shard.images],
                    )
                advance(shard.size)
        if not encoded:
            raise _nothing_encoded(bool(self.skipped))

    def _announce(self, advance: Advance) -> None:
        """Tell the store how much it is about to get: of many views far more than of the full image."""
        missing = read = 0
        for group in self._identified():
            readable = [entry for entry in group if isinstance(entry, IdentifiedSample)]
            missing += self._stages.missing_bytes(readable, self._request.method.views)
            read += len(group)
            advance(0, f"read {read} images")
        self._stages.store.announce(missing)

    def _identified(self) -> Iterator[Sequence[IdentifiedSample | UnreadableSample]]:
        for group in batched(self._request.images, SHARD):
            samples = [as_sample(image) for image in group]
            yield identify(samples, self._stages.models.digests, truncated=self._request.truncated)

    def _entries(self, advance: Advance) -> Iterator[Sequence[IdentifiedSample | UnreadableSample]]:
        """The images that are encoded, with an engine when the store has their features."""
        request, encoded = self._request, 0
        with opened_engine(self._engine) as engine:
            if engine is None:
                yield from self._identified()
                return
            groups = (list(map(as_sample, group)) for group in batched(request.images, SHARD))
            task = EncodingTask(request.method.views, truncated=request.truncated)
            for group, failures in engine.encode(groups, files_only, self._stages, task):
                encoded += len(group)
                advance(0, f"workers have done {encoded} images")
                yield identify_others(group, failures, self._stages.models.digests, truncated=request.truncated)


@dataclass(frozen=True)
class _ClassPlan:
    """The classes that are encoded: their texts, what becomes of these, and where they are from."""

    texts: ClassTexts
    rows: ClassRows
    source: str
    method: str

    @property
    def info(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "method": self.method,
            "rows": self.rows,
            "texts_digest": self.texts.digest,
        }


@dataclass(frozen=True)
class _FeatureRequest:
    """What is encoded, and how; see ``encode_batches``."""

    images: Iterable[ImageInput]
    source: str
    of: FeaturesOf
    method: Method
    classes: _ClassPlan | None
    on_error: OnError
    truncated: Truncated
    progress: Progress
    remarks: Sequence[Remark]
    share: SourceShare | None


def encode(
    images: ImageSource,
    descriptions: ClassInputs | None = None,
    model: Model | DeferredModel | str = "embedded",
    *,
    of: FeaturesOf = "full-image",
    method: str | Method | None = None,
    views: int | None = None,
    class_rows: ClassRows = "mean",
    templates: str = "plain",
    attention: str | AttentionBackend = "auto",
    seed: int = 0,
    batch_size: int = 64,
    cache: PersistentStore | Path | str | None = None,
    on_error: OnError = "stop",
    truncated: Truncated = "refuse",
    shard: ShardSpec | str | None = None,
    progress: Progress = no_progress,
    engine: Engine | str = "local",
) -> EncodedSet:
    """Encode images, and classes if they are given, and hold all features in memory.

    Arguments and errors are those of ``encode_batches``, whose batches it joins.
    """
    return encode_batches(
        images,
        descriptions,
        model,
        of=of,
        method=method,
        views=views,
        class_rows=class_rows,
        templates=templates,
        attention=attention,
        seed=seed,
        batch_size=batch_size,
        cache=cache,
        on_error=on_error,
        truncated=truncated,
        shard=shard,
        progress=progress,
        engine=engine,
    ).collect()


def encode_batches(
    images: ImageSource,
    descriptions: ClassInputs | None = None,
    model: Model | DeferredModel | str = "embedded",
    *,
    of: FeaturesOf = "full-image",
    method: str | Method | None = None,
    views: int | None = None,
    class_rows: ClassRows = "mean",
    templates: str = "plain",
    attention: str | AttentionBackend = "auto",
    seed: int = 0,
    batch_size: int = 64,
    cache: PersistentStore | Path | str | None = None,
    on_error: OnError = "stop",
    truncated: Truncated = "refuse",
    shard: ShardSpec | str | None = None,
    progress: Progress = no_progress,
    engine: Engine | str = "local",
) -> EncodedBatches:
    """Encode images, and classes if they are given, some images at a time.

    What is named is checked at once; the model is loaded when there is something to compute. With a cache what another
    run or command has encoded is not encoded again.

    Args:
        images: a folder, of which all images at any depth are taken, a file, or the spec of a data set; a ``Dataset``;
            or images as ``Classifier.classify`` takes them, which are read in small groups.
        descriptions: the classes, as ``Classifier`` takes them; None for image features alone.
        model, attention, seed, batch_size, cache: as ``Classifier`` takes them.
        of: what a row is of: "full-image"; "mean", the mean of all views of the method, of unit length; or "views", a
            vector of each view.
        method: whose views and class texts are used, a row of the table or its name; None for the descriptions of each
            class ("cupl") and, where views are asked for, the views of "abs".
        views, templates: number of views of each kind, None for the method's own; the template set, if one is used.
        class_rows: "mean" for one vector a class, the mean of its texts as CuPL uses it, or "each" for one a text.
        on_error: "stop": an image that cannot be read raises ``ImageError``, after the batches before it. "skip": it
            gets no row, and ``skipped`` names it.
        truncated, shard: see ``load_image``, and ``ShardSpec`` for a share of the images, such as ``2/8``.
        progress, engine: shows how many images are done; "local", "ray", or an ``Engine`` that has them encoded.

    Raises:
        UsageError, UnknownNameError: what is named does not exist, or an option that would do nothing.
        DatasetError, WeightsError: the data set cannot be read or has no images; the weights are not on this machine.
        ModelError, EngineError: from the iterator: the model cannot give the views, workers cannot go on.
        ImageError: from the iterator, see ``on_error``; or none of the images could be read.
    """
    _check_choices(of, class_rows, engine)
    label_space = None if descriptions is None else as_label_space(descriptions, {})
    chosen, classes = _plan(of, method, views, label_space, class_rows, templates, seed)
    inputs, source, remarks = _open_source(images)
    inputs, share = _share_of(inputs, ShardSpec.of(shard))
    store = open_store(cache)
    models = deferred_model(model, attention, store).for_methods([chosen])
    models.find_files()
    request = _FeatureRequest(inputs, source, of, chosen, classes, on_error, truncated, progress, remarks, share)
    said = ("" if classes is None else classes.texts.note, "" if share is None else share.note)
    scratch = None if store is None else store.root
    stages = Stages(store or MemoryStore(_LATEST_ITEMS), models, seed, batch_size, scratch=scratch)
    return EncodedBatches(request, stages, [*filter(None, said), *model_notes(models.name), *plugin_notes()], engine)


def _check_choices(of: str, class_rows: str, engine: Engine | str) -> None:
    find_engine(engine)
    if of not in get_args(FeaturesOf):
        raise UnknownNameError("kind of features", of, get_args(FeaturesOf))
    if class_rows not in get_args(ClassRows):
        raise UnknownNameError("kind of class rows", class_rows, get_args(ClassRows))


def _plan(
    of: FeaturesOf,
    method: str | Method | None,
    views: int | None,
    label_space: LabelSpace | None,
    class_rows: ClassRows,
    templates: str,
    seed: int,
) -> tuple[Method, _ClassPlan | None]:
    """The method with the views that are encoded, and the classes with its class texts.

    Raises:
        UsageError: an option that would do nothing.
    """
    is_full = of == "full-image"
    if is_full and views is not None:
        raise UsageError("views has no effect on features of the full image", remedy="Ask for the mean or the views")
    if label_space is None and is_full and method is not None:
        raise UsageError(
            "a method has no effect on features of the full image without classes",
            remedy="Give classes, or ask for the mean or the views",
        )
    if label_space is None and class_rows != "mean":
        raise UsageError("there are no classes to give each text of", remedy="Give descriptions or class names")
    default = "cupl" if is_full else "abs"
    chosen = get_method(default if method is None else method) if not isinstance(method, Method) else method
    if is_full:
        chosen = dataclasses.replace(chosen, views=(FullImage(),))
    elif views is not None:
        if all(isinstance(source, FullImage) for source in chosen.views):
            raise UsageError(
                f"views has no effect on the method {chosen.name!r}, which uses only the full image",
                remedy="Leave out the number of views, or name a method with sampled views, such as abs",
            )
        chosen = with_view_count(chosen, views)
    if label_space is None:
        return chosen, None
    plan = plan_methods([chosen], label_space, None, templates, None, seed)
    ((planned, class_texts),) = plan.methods.items()
    return planned, _ClassPlan(class_texts, class_rows, label_space.source, planned.name)


def _open_source(images: ImageSource) -> tuple[Iterable[ImageInput], str, Sequence[Remark]]:
    """The images of a source, its name, and what was left out or guessed when they were listed."""
    if isinstance(images, str | Path):
        images = open_images(str(images))
    if isinstance(images, Dataset):
        return images.samples, images.name, images.remarks
    if not isinstance(images, Iterable) or isinstance(images, bytes | Sample):
        raise UsageError("images must be a list of images, got one image", remedy="Pass a list: encode([image])")
    return images, "", ()


def _share_of(images: Iterable[ImageInput], shard: ShardSpec | None) -> tuple[Iterable[ImageInput], SourceShare | None]:
    """The images of a share; all of them where there is none.

    Raises:
        UsageError: images that are no sequence, or fewer images than shares.
    """
    if shard is None:
        return images, None
    if not isinstance(images, Sequence):
        raise UsageError("a share needs images whose number is known", remedy="Give a list or a data set")
    source = SourceDigest()
    for image in images:
        sample = as_sample(image)
        source.add(sample.name, getattr(sample, "label", ""))
    positions = shard.positions(source.images)
    return images[positions.start : positions.stop], shard.share(source.images, source.value)


def part_path(path: Path | str, share: SourceShare | None) -> Path:
    """The file of a share: ``photos-00002-of-00008.parquet`` for share 2/8 and ``photos.parquet``; the same for all."""
    path = Path(path)
    if share is None:
        return path
    return path.with_name(f"{path.stem}-{share.index:05}-of-{share.count:05}{path.suffix}")


def _features(
    stages: Stages, images: Sequence[IdentifiedSample], method: Method, of: FeaturesOf
) -> NDArray[np.float32]:
    """Unit features of images: [B, d], or [B, V, d] of their views, in the order of the view sources."""
    import torch

    from abs_classify.methods.similarity import unit

    by_source = stages.views(images, method.views)
    views = torch.cat([by_source[source] for source in method.views], dim=1)
    if of == "mean":
        views = unit(views.mean(1))
    features: NDArray[np.float32] = (views[:, 0] if of == "full-image" else views).numpy()
    return features


def _class_features(stages: Stages, classes: _ClassPlan) -> ClassFeatures:
    class_texts = classes.texts
    texts = stages.text_features(class_texts)
    if classes.rows == "mean":
        return ClassFeatures(texts.means.numpy(), class_texts.class_ids, class_texts.class_names, None)
    return ClassFeatures(
        texts.features.numpy(),
        [class_texts.class_ids[position] for position in class_texts.class_index],
        [class_texts.class_names[position] for position in class_texts.class_index],
        class_texts.texts,
    )


def _check_not_read(path: Path, images: Iterable[ImageInput]) -> None:
    """Refuse to replace a file that images are read from.

    Raises:
        UsageError: it is one.
    """
    if not path.exists() or not isinstance(images, Sequence):
        return
    for image in images:
        read = image.path if isinstance(image, Sample) else Path(image) if isinstance(image, str | Path) else None
        # links to a file that have another name are rare, and asking the disk for each image takes long
        if read is not None and read.name == path.name and read.exists() and read.samefile(path):
            raise UsageError(
                f"the output must not be a file that images are read from, got {str(path)!r}",
                remedy="Name another file",
            )


def _nothing_encoded(has_skipped: bool) -> ImageError:
    if has_skipped:
        return ImageError("none of the images could be read", remedy="See the reasons with --on-error stop")
    return ImageError("there are no images", remedy="Give at least one image")
