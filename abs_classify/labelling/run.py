"""Label images from anywhere, as many as there are: rows as they are made, kept in a folder, and never made twice.

from abs_classify import label

run = label("photos", {"cat": ["A cat has whiskers."], "dog": ["A dog wags its tail."]}, out="labelled")
for row in run:
    print(row.path, run.name_of(row), row.confidence)
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abs_classify.classifier import Classifier
from abs_classify.encoding.samples import UnreadableSample, batched, identify
from abs_classify.encoding.stages import SHARD
from abs_classify.encoding.work import WorkCounts
from abs_classify.engines.base import find_engine, opened_engine
from abs_classify.labelling.decisions import read_decisions
from abs_classify.labelling.effective import EffectiveLabels
from abs_classify.labelling.estimate import log_estimate
from abs_classify.labelling.identity import identity_of, open_or_create, views_as_json
from abs_classify.labelling.judge import Judge, choose_thresholds, learned_thresholds
from abs_classify.labelling.labeller import Labeller
from abs_classify.labelling.learned import Learned, learned_of
from abs_classify.labelling.prefetch import prefetched
from abs_classify.labelling.row_writer import RowWriter
from abs_classify.labelling.rows import COLUMNS, LabelRow, Status, table_cells, table_names
from abs_classify.labelling.sources import ImageSources
from abs_classify.labelling.summary import LabelSummary
from abs_classify.methods.scoring import PerViewScorer
from abs_classify.methods.table import get_method
from abs_classify.plugins import changed_plugins, plugin_record
from abs_classify.sharding import ShardSpec
from abs_core.errors import AbsError, ImageError, StorageError, UsageError
from abs_core.progress import Advance, Progress, no_progress
from abs_core.remarks import Remark
from abs_core.result_tables import data_frame, html_table
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.datasets.base import Sample
    from abs_classify.encoding.samples import IdentifiedSample
    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.engines.base import Engine
    from abs_classify.images import Truncated
    from abs_classify.labelling.label_folder import RowOrder
    from abs_classify.labelling.sources import ListedImage
    from abs_classify.labelling.tables import TableFormat
    from abs_classify.methods.table import Method, ViewNumber
    from abs_classify.models.base import AttentionBackend, Model
    from abs_classify.models.deferred import DeferredModel
    from abs_core.descriptions import Description, LabelSpace

__all__ = ["LabelRun", "label"]

# classes that a notebook shows
_SHOWN_CLASSES = 20

# images whose rows are looked up in one step
_LOOK_UP = 512

# shards that are listed and identified ahead of the one that is encoded
_AHEAD = 2


@dataclass(frozen=True)
class _Shard:
    """Images that are encoded together.

    Args:
        listed: the images.
        entries: of each, its content id or why there is none.
        known: how many images before these, since the shard before, have their rows.
    """

    listed: Sequence[ListedImage]
    entries: Sequence[IdentifiedSample | UnreadableSample]
    known: int


@dataclass(frozen=True)
class _ListedShard:
    """Images of which nothing is read yet.

    Args:
        listed: the images.
        samples: of each, where it is, or why it cannot be read.
        known: as in ``_Shard``.
    """

    listed: Sequence[ListedImage]
    samples: Sequence[Sample | UnreadableSample]
    known: int

    @classmethod
    def of(cls, listed: Sequence[ListedImage], known: int) -> _ListedShard:
        return cls(list(listed), [_sample(image) for image in listed], known)


def label(
    source: str | Path | Sequence[str | Path],
    descriptions: LabelSpace | Mapping[str, Sequence[str | Description]] | Sequence[str],
    *,
    model: Model | DeferredModel | str = "embedded",
    out: Path | str | None = None,
    method: str | Method = "abs",
    views: ViewNumber = "adaptive",
    names: Mapping[str, str] | None = None,
    templates: str = "plain",
    attention: str | AttentionBackend = "auto",
    seed: int = 0,
    batch_size: int = 64,
    cache: PersistentStore | Path | str | None = None,
    threshold: float | None = None,
    none: bool = False,
    negatives: Sequence[str] = (),
    boxes: Path | str | None = None,
    formats: Sequence[TableFormat] = ("csv",),
    doubtful_first: bool = False,
    truncated: Truncated = "refuse",
    shard: ShardSpec | str | None = None,
    progress: Progress = no_progress,
    settings: Mapping[str, Any] | None = None,
    engine: Engine | str = "local",
) -> LabelRun:
    """Label images: a row for each, whatever becomes of it.

    Args:
        source: a folder, file, archive, table, ``@LIST`` or data set, see ``ImageSources``; or several of these.
        descriptions, model, method, names, templates, attention, seed, batch_size, cache: as in ``Classifier``.
        views: also as there; by default as few as each label needs, where the method can look at fewer than all.
        out: a folder that keeps the rows of one set of classes, model and method, so that a run resumes; None: none.
        threshold: of the confidence, below which a row is doubtful; None for the default, see ``choose_thresholds``.
        none: whether an image may show none of the classes; its row is rejected then. Whether it does is judged by
            whether common names, or the negatives, fit it better than any class.
        negatives: names of what images may show besides the classes; only with ``none``.
        boxes: a COCO or YOLO file: each box of an image is labelled, as an image of its own.
        formats, doubtful_first: of the tables in ``out``; whether these end up in the order of doubt, not of arrival.
        truncated, progress, engine: as in ``Classifier.classify``, and in ``encode_batches``.
        shard: the share of the images, ``2/8`` or ``slurm``; ``merge_labels`` puts the folders of all together.
        settings: how to open the model again, JSON values that the folder keeps.

    Raises:
        UsageError: what ``Classifier`` refuses, a source that is not there, negatives without ``none``, a folder of
            another run, or from the iterator: another process labels into it.
        DatasetError, EngineError: from the iterator: there are no images, or workers cannot do their part.
    """
    folder = None if out is None else Path(out)
    places = [source] if isinstance(source, str | Path) else list(source)
    spec = ShardSpec.of(shard)
    sources = ImageSources(places, boxes=boxes, exclude=[] if folder is None else [folder], shard=spec)
    classifier = Classifier(
        model, descriptions, method=method, names=names, templates=templates, attention=attention,
        views=_own(method, views), seed=seed, batch_size=batch_size, cache=cache,
    )  # fmt: skip
    opening = {"batch_size": batch_size, "views": views_as_json(_own(method, views)), **plugin_record()}
    wanted = _Wanted(none, negatives, threshold, formats, "doubtful" if doubtful_first else "arrival", truncated, spec)
    opening = {"templates": _from_anywhere(templates), **opening, **(settings or {})}
    return _start(classifier, sources, folder, wanted, opening, progress, engine)


def _from_anywhere(templates: str) -> str:
    """A set of templates by a name that holds in any working directory."""
    return str(Path(templates).absolute()) if templates.endswith((".yaml", ".yml", ".txt")) else templates


@dataclass(frozen=True)
class _Wanted:
    """What is wanted of a run, as in ``label``."""

    none: bool
    negatives: Sequence[str]
    threshold: float | None
    formats: Sequence[TableFormat]
    order: RowOrder
    truncated: Truncated
    shard: ShardSpec | None


def _start(
    classifier: Classifier,
    sources: ImageSources,
    out: Path | None,
    wanted: _Wanted,
    opening: Mapping[str, Any],
    progress: Progress,
    engine: Engine | str,
) -> LabelRun:
    """A run that is about to begin."""
    find_engine(engine)
    if wanted.negatives and not wanted.none:
        raise UsageError("negatives have no effect without none", remedy="Add none, or leave out the negatives")
    space = classifier.label_space
    if len(space.labels.classes) == 1 and not wanted.none:
        raise UsageError(
            "one class leaves nothing to choose",
            remedy="Add classes, or ask whether images show it with --none",
        )
    labeller = Labeller(classifier, none=wanted.none, negatives=wanted.negatives)
    thresholds = choose_thresholds(len(space.labels.classes), wanted.threshold, none=wanted.none)
    learned, changed = Learned(), list[str]()
    writer = None
    if out is not None:
        shard = None if wanted.shard is None else str(wanted.shard)
        identity = identity_of(classifier, wanted.negatives, wanted.none, wanted.truncated, shard)
        folder = open_or_create(out, space, identity, opening)
        changed = changed_plugins(folder.run["settings"].get("plugins"))
        learned = learned_of(folder)
        thresholds = learned_thresholds(learned, thresholds)
        if wanted.threshold is not None:
            thresholds = replace(thresholds, confidence=wanted.threshold)
        writer = RowWriter(
            folder,
            wanted.formats,
            thresholds,
            order=wanted.order,
            generation=learned.generation,
            threshold=wanted.threshold,
        )
    judge = Judge(thresholds, learned)
    run = LabelRun(
        sources, labeller, judge, writer, classifier, progress=progress, truncated=wanted.truncated, engine=engine
    )
    run.notes = [*run.notes, *changed]
    return run


def _own(method: str | Method, views: ViewNumber) -> ViewNumber:
    """The number of views: where adaptive is the default, a method that cannot look at fewer keeps its own."""
    row = get_method(method) if isinstance(method, str) else method
    return None if views == "adaptive" and not isinstance(row.scorer, PerViewScorer) else views


class LabelRun(Iterator[LabelRow]):
    """The rows of images, each as soon as it is made. Rows that the folder has already are not given again.

    Args:
        sources: the images.
        labeller: looks at them.
        judge: makes their rows.
        writer: keeps the rows; None keeps none.
        classifier: of the labeller.
        progress: shows how many images are done.
        truncated: as in ``load_image``.
        engine: as in ``label``.

    Attributes:
        folder: with all rows; None where none are kept.
        names: what each class is called in tables.
        notes: what a user of the labels should know.
    """

    def __init__(
        self,
        sources: ImageSources,
        labeller: Labeller,
        judge: Judge,
        writer: RowWriter | None,
        classifier: Classifier,
        *,
        progress: Progress,
        truncated: Truncated,
        engine: Engine | str = "local",
    ) -> None:
        self._sources, self._labeller, self._judge, self._writer = sources, labeller, judge, writer
        self._progress, self._truncated, self._engine = progress, truncated, engine
        # images that were met, and rows that were made
        self._met = self._made = 0
        self._start = time.monotonic()
        self._rows = self._run()
        self._counts = Counter[tuple[Status, int | None]]()
        self.folder = None if writer is None else writer.folder
        # whether there are rows already; which images they are of is known only when these are met
        self._resumes = False
        self.names, self.notes = table_names(classifier.label_space.labels.classes), classifier.notes

    def __next__(self) -> LabelRow:
        return next(self._rows)

    @property
    def work(self) -> WorkCounts:
        """How many images, views and texts so far were asked for, and how many of them were computed."""
        return self._labeller.work

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What so far was left out of the sources, and what was guessed or scaled to make pixels, counted."""
        return (*self._sources.remarks.remarks, *self._labeller.remarks)

    def __repr__(self) -> str:
        place = "" if self.folder is None else f", in {str(self.folder.path)!r}"
        return f"<LabelRun: {self._made} rows made so far of {counted(self._met, 'image', 'images')}{place}>"

    def _repr_html_(self) -> str:
        try:
            summary = self.summary()
        except StorageError:  # the run has not begun, or its folder is gone
            summary = LabelSummary.of(self._counts, self.names, self._made, 0.0)
        rows = [*((f"status {status}", count) for status, count in summary.statuses.items() if count)]
        rows += [(f"label {name}", count) for name, count in list(summary.classes.items())[:_SHOWN_CLASSES]]
        return html_table(repr(self).strip("<>"), ("rows", "images"), rows)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: the summary, what was left out or guessed, and what a user of the labels should know."""
        remarks = [remark.as_json() for remark in self.remarks]
        return {**self.summary().to_dict(), "remarks": remarks, "notes": list(self.notes)}

    def to_pandas(self) -> Any:
        """The rows of ``table`` as a pandas ``DataFrame``.

        Raises:
            UsageError: pandas is not installed; nothing was computed.
        """
        return data_frame(self._cells(), COLUMNS)

    def close(self) -> None:
        """End the run: rows that were made are stored, what was begun for further images is dropped."""
        self._rows.close()

    def name_of(self, row: LabelRow) -> str:
        """The name of a row's class in tables; empty where it has none."""
        return "" if row.label is None else self.names[row.label]

    def table(self) -> Any:
        """All rows, once the run has come to its end: a pandas data frame if pandas is installed, else dictionaries.

        They show what reviewers decided, as the tables of the folder do. Without a folder, the rows that were not
        taken before.
        """
        cells = list(self._cells())
        try:
            return data_frame(cells, COLUMNS)
        except UsageError:
            return cells

    def _cells(self) -> Iterator[dict[str, Any]]:
        """The rows of ``table``; computes what is left of the run."""
        rows: Iterable[LabelRow] = list(self)
        if self.folder is not None:
            labels = EffectiveLabels(self.folder.classes, read_decisions(self.folder.path).current)
            rows = map(labels.effective, self.folder.rows())
        return (table_cells(row, self.names) for row in rows)

    def summary(self) -> LabelSummary:
        """The rows of the folder by status and class, as its tables show them; without a folder, those of this run."""
        seconds = time.monotonic() - self._start
        if self.folder is not None:
            return LabelSummary.of_folder(self.folder, self._made, seconds)
        return LabelSummary.of(self._counts, self.names, self._made, seconds)

    # --- the run -----------------------------------------------------------------------------------------------------

    def _run(self) -> Generator[LabelRow, None, None]:
        with ExitStack() as stack:
            if self._writer is not None:
                stack.enter_context(self._writer.opened())
                self._refuse_newer_learned(self._writer)
                self._resumes = self._writer.folder.count() > 0
            total = self._sources.count_estimate()
            if (share := self._sources.share()) is not None:
                self.notes = [*self.notes, share.note]
                if self._writer is not None:
                    self._writer.begin_share(share)
            advance = stack.enter_context(self._progress("labelling", total or 0, "images"))
            shards = stack.enter_context(prefetched(self._shards(), _AHEAD))
            yield from self._label(shards, total, advance)
            if not self._met:
                raise self._sources.no_images()
            if self._writer is not None:
                self._writer.mark_vanished()
                if share is not None:
                    self._writer.end_share(share)

    @staticmethod
    def _refuse_newer_learned(writer: RowWriter) -> None:
        """Refuse to label by what was learned before the folder was locked, if that was replaced since it was read."""
        if learned_of(writer.folder).generation != writer.generation:
            raise UsageError(
                f"something was learned from the corrections in {str(writer.folder.path)!r} since this run began",
                remedy="Run the command again",
            )

    def _label(self, shards: Iterator[_Shard], total: int | None, advance: Advance) -> Generator[LabelRow, None, None]:
        """The rows of all images that lack one, in shards of which the next is begun while one is encoded."""
        taken: deque[_Shard] = deque()

        def entries() -> Iterator[Sequence[IdentifiedSample | UnreadableSample]]:
            for shard in shards:
                if shard.listed:
                    if self._engine == "local" and not taken and total is not None and self._made == 0:
                        left = total - self._met - shard.known
                        log_estimate(self._labeller, shard.entries, left, at_most=self._resumes)
                    taken.append(shard)
                    yield shard.entries
                else:
                    self._advance(shard, advance)

        stream = entries()
        first = next(stream, None)
        if first is None:
            return  # without torch, which takes seconds to import
        with closing(self._labeller.evidence(chain([first], stream))) as evidence:
            for seen in evidence:
                shard = taken.popleft()
                for image, row in zip(shard.listed, self._judge.rows(seen, shard.listed, shard.entries), strict=True):
                    self._keep(image, row)
                    yield row
                self._advance(shard, advance)

    def _keep(self, image: ListedImage, row: LabelRow) -> None:
        self._made += 1
        self._counts[row.status, row.label] += 1
        if self._writer is not None:
            self._writer.add(image, row)

    def _advance(self, shard: _Shard, advance: Advance) -> None:
        self._met += shard.known + len(shard.listed)
        advance(shard.known + len(shard.listed))

    def _shards(self) -> Iterator[_Shard]:
        """The images that lack a row, with their content ids, in the shards in which they are encoded."""
        with opened_engine(self._engine) as engine:
            if engine is None:
                for shard in self._listed_shards():
                    yield self._identified(shard, {})
                return
            for shard, failures in self._labeller.encode(engine, self._listed_shards(), _readable, self._truncated):
                yield self._identified(shard, failures)

    def _listed_shards(self) -> Iterator[_ListedShard]:
        waiting: list[ListedImage] = []
        known = 0
        for images in batched(self._sources, _LOOK_UP):
            lacking = list(images) if self._writer is None else self._writer.lacking(images)
            known += len(images) - len(lacking)
            waiting += lacking
            while len(waiting) >= SHARD:
                yield _ListedShard.of(waiting[:SHARD], known)
                del waiting[:SHARD]
                known = 0
            if not waiting:
                yield _ListedShard.of([], known)
                known = 0
        yield _ListedShard.of(waiting, known)

    def _identified(self, shard: _ListedShard, failures: Mapping[int, AbsError]) -> _Shard:
        samples = [
            UnreadableSample(image.path, failures[place]) if place in failures else sample
            for place, (image, sample) in enumerate(zip(shard.listed, shard.samples, strict=True))
        ]
        readable = [sample for sample in samples if not isinstance(sample, UnreadableSample)]
        identified = iter(identify(readable, self._labeller.digests, truncated=self._truncated))
        entries = [sample if isinstance(sample, UnreadableSample) else next(identified) for sample in samples]
        return _Shard(shard.listed, entries, shard.known)


def _readable(shard: _ListedShard) -> list[Sample | None]:
    return [None if isinstance(sample, UnreadableSample) else sample for sample in shard.samples]


def _sample(image: ListedImage) -> Sample | UnreadableSample:
    """An image to be read, or why it cannot be."""
    try:
        if image.problem:
            raise ImageError(image.problem, remedy="Check the file")
        return image.location.sample()
    except AbsError as error:  # what contains it is gone since it was listed
        return UnreadableSample(image.path, error)
