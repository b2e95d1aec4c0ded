"""What is kept, and in which space: text features, attention maps, view features, facts on images.

Everything is found by the id of an image or text, so the other images of a run, their order and number decide nothing.
Images go through in shards, and what is computed of an image is kept as soon as its shard ends or fails, so a run that
was killed resumes at its last shard. An error is never kept, nor are scores, which follow from features at once.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from abs_classify.encoding.cache import DERIVED
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.read_ahead import ReadAhead
from abs_classify.encoding.samples import IdentifiedSample, ImageFacts
from abs_classify.encoding.spaces import FeatureStore, PersistentStore, Segment, Space, text_id
from abs_classify.encoding.stage_spaces import StageSpaces
from abs_classify.encoding.view_plan import MethodScores, PendingImage, StoredViews, ViewPlan
from abs_classify.encoding.work import WorkCounts
from abs_classify.methods.scorer_output import checked_scores, checked_step
from abs_classify.models.deferred import DeferredModel
from abs_classify.models.embedded_files import EMBEDDED
from abs_core.canonical import digest

if TYPE_CHECKING:
    import numpy as np
    import torch

    from abs_classify.encoding.encoder import EncodedImage
    from abs_classify.images import LoadedImage
    from abs_classify.methods.adaptive import RuleSource
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource
    from abs_classify.models.base import AttentionBackend, Model
    from abs_classify.models.store import WeightsStore

__all__ = ["SHARD", "ModelSettings", "Stages", "open_stages"]

#: images whose results are kept together
SHARD = 32

# seconds to wait for another process that computes the same shard
_LONGEST_WAIT = 600.0


if TYPE_CHECKING:
    _Pipeline = ReadAhead[PendingImage, tuple[PendingImage, LoadedImage], EncodedImage]
    _Encoded = dict[str, tuple[PendingImage, EncodedImage]]


@dataclass
class Stages:
    """Every stage of a classification, each computed once for its space and item.

    One run at a time; ``for_run`` gives the stages of another one.

    Args:
        store: where results are kept.
        models: the model and the attention backend; loaded when something must be computed.
        seed: of all random numbers.
        batch_size: crops that are encoded together; not part of any space.
        seconds: wall time by what it went into: load (models), texts, read (images), encode, match. What came from the
            store counts nowhere.
        work: what was asked for, and what was computed.
        scratch: folder for features of class texts that would take much memory; None keeps all of them in memory.
    """

    store: FeatureStore
    models: DeferredModel
    seed: int
    batch_size: int
    seconds: dict[str, float] = field(default_factory=dict)
    work: WorkCounts = field(default_factory=WorkCounts)
    scratch: Path | None = None
    _texts: dict[str, ClassTextFeatures] = field(default_factory=dict, init=False, repr=False)
    _ahead: tuple[ViewPlan, bool, _Pipeline] | None = field(default=None, init=False, repr=False)
    _plan: tuple[Hashable, ViewPlan] | None = field(default=None, init=False, repr=False)
    # what was begun of the next shard
    _announced: list[PendingImage] = field(default_factory=list, init=False, repr=False)
    # of images that were read and whose shard is not done
    _facts: dict[str, ImageFacts] = field(default_factory=dict, init=False, repr=False)

    @property
    def _spaces(self) -> StageSpaces:
        return StageSpaces(self.models, self.seed)

    def for_run(self, store: FeatureStore) -> Stages:
        """Stages that share the models and the text features with these, and nothing that a run changes."""
        stages = replace(self, store=store, seconds={}, work=WorkCounts())
        stages._texts = self._texts
        return stages

    def text_features(self, class_texts: ClassTexts) -> ClassTextFeatures:
        """The unit features of class texts and of their label texts; kept, since every shard asks for them."""
        if class_texts.digest not in self._texts:
            self._texts[class_texts.digest] = self._load_texts(class_texts)
        return self._texts[class_texts.digest]

    def _load_texts(self, class_texts: ClassTexts) -> ClassTextFeatures:
        import torch

        from abs_classify.encoding.text_rows import fill_rows, take_rows
        from abs_classify.methods.scoring import ClassTextFeatures

        unique = list(dict.fromkeys((*class_texts.texts, *class_texts.label_texts)))
        matrix = fill_rows(unique, self._rows_of_texts, self.scratch)
        position_of = {text: row for row, text in enumerate(unique)}
        features = take_rows(matrix, [position_of[text] for text in class_texts.texts], self.scratch)
        labels = torch.from_numpy(matrix[[position_of[text] for text in class_texts.label_texts]])
        return ClassTextFeatures(torch.from_numpy(features), torch.tensor(class_texts.class_index), labels)

    def _rows_of_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features [n, d] of different texts; what is not in the store is encoded and kept."""
        import numpy as np

        ids = [text_id(text) for text in texts]
        rows = self._rows_of(self._spaces.texts, ids, 1, asked=False)
        self.work.ask_once(self._spaces.texts, ids)
        if missing := [position for position, row in enumerate(rows) if row is None]:
            for position, row in zip(missing, self._encode_texts([texts[place] for place in missing]), strict=True):
                rows[position] = row
        features: np.ndarray = np.concatenate([row for row in rows if row is not None])
        return features

    def _encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features [n, 1, d] of texts, which are kept."""
        from abs_classify.encoding.encoder import encode_texts

        self.store.require_writable()
        model = self._load()
        with self.timed("texts"):
            features: np.ndarray = encode_texts(model, texts).numpy()[:, None]
        rows = zip(map(text_id, texts), features, strict=True)
        self._append(self._spaces.texts, [Segment(text, 0, row) for text, row in rows])
        return features

    def scores(
        self,
        images: Sequence[IdentifiedSample],
        methods: Mapping[Method, ClassTexts],
        also: Sequence[ViewSource] = (),
        then: Sequence[IdentifiedSample] = (),
        adaptive: RuleSource | None = None,
        *,
        keep_views: bool = False,
    ) -> MethodScores:
        """Class scores of one shard for each method that looks at an image alone; with ``keep_views`` also what it saw.

        Each image is read at most once, whatever the number of methods. The views ``also`` are encoded with the rest.
        The images of ``then``, the next shard, are begun meanwhile; ``close`` drops them.

        Raises:
            UnreadableImage: an image cannot be read; what was computed of the images before it is kept.
            UsageError: a calibration of ``adaptive`` is of something else.
        """
        from abs_classify.methods.scoring import StreamScorer

        # before any image: what a model makes of texts once, it makes here with all cores and where Ctrl-C reaches it
        texts = {method: self.text_features(class_texts) for method, class_texts in methods.items()}
        plan = self._view_plan(methods, also, adaptive)
        stored, scores = self._rows(images, plan, then, asked=True), MethodScores({}, {})
        for method in methods:
            assert not isinstance(method.scorer, StreamScorer)  # those go through stream_scores
            if keep_views:
                scores.views[method.name] = stored.looked_at(method, [image.id for image in images], also)
            if method in plan.adaptive:
                scores.add(method.name, stored.results(method, [image.id for image in images]))
                continue
            with self.timed("match"):
                views = {
                    view.kind: self._stack(images, stored, plan.encoded[view], view.count) for view in method.views
                }
                scores.by_method[method.name] = checked_scores(method, views, texts[method])
        return scores

    def stream_scores(
        self, shards: Sequence[Sequence[IdentifiedSample]], method: Method, class_texts: ClassTexts
    ) -> np.ndarray:
        """Class scores [n, C] of a method whose state is carried from image to image, through the shards in order.

        Raises:
            UnreadableImage: an image cannot be read.
        """
        import numpy as np

        from abs_classify.methods.scoring import StreamScorer

        assert isinstance(method.scorer, StreamScorer)  # the caller asked method.stream
        texts = self.text_features(class_texts)
        state = method.scorer.start(texts, sum(map(len, shards)))
        rows = []
        for shard in shards:
            views = method.views_by_kind(self.views(shard, method.views))
            for position in range(len(shard)):
                with self.timed("match"):
                    features = {kind: rows_of_kind[position] for kind, rows_of_kind in views.items()}
                    rows.append(checked_step(method, state, features, texts))
        return np.stack(rows)

    def views(self, images: Sequence[IdentifiedSample], views: Sequence[ViewSource]) -> dict[ViewSource, torch.Tensor]:
        """Unit features [B, count, d] of the views of one shard.

        Raises:
            UnreadableImage: an image cannot be read; what was computed of the images before it is kept.
        """
        plan = ViewPlan.of(views, self._spaces)
        stored = self._rows(images, plan, ())
        return {view: self._stack(images, stored, plan.encoded[view], view.count) for view in views}

    def announce(self, images: Sequence[IdentifiedSample], views: Sequence[ViewSource]) -> None:
        """Tell the store, before a long run, how many bytes the views that are missing will take."""
        self.store.announce(self.missing_bytes(images, views))

    def missing_bytes(self, images: Sequence[IdentifiedSample], views: Sequence[ViewSource]) -> int:
        """The bytes of the views and attention maps of images that the store lacks."""
        ids = list(dict.fromkeys(image.id for image in images))
        rows = sum(
            max(0, view.count - known)
            for view in self._spaces.largest(views).values()
            for known in self.store.counts(self._spaces.view(view), ids)
        )
        maps = 0
        if any(view.needs_attention for view in views):
            maps = sum(known == 0 for known in self.store.counts(self._spaces.attention, ids))
        facts = self.models.facts
        return 4 * (rows * facts.embed_dim + maps * facts.attention_grid**2)

    def lacking(
        self,
        images: Sequence[IdentifiedSample],
        methods: Mapping[Method, ClassTexts],
        also: Sequence[ViewSource] = (),
        adaptive: RuleSource | None = None,
    ) -> list[IdentifiedSample]:
        """The images of one shard that ``scores`` would have to read."""
        plan, ids = self._view_plan(methods, also, adaptive), [image.id for image in images]
        missing = self._spaces.lacking(self.store, ids, {view: plan.first_wanted(view) for view in plan.sources})
        if plan.decisions is not None:
            stored = self._stored(dict.fromkeys(ids), plan)
            stored.decide(ids)
            missing |= {image_id for image_id in ids if stored.lacks(image_id)}
        return [image for image in images if image.id in missing]

    @staticmethod
    def _stack(images: Sequence[IdentifiedSample], stored: StoredViews, view: ViewSource, count: int) -> torch.Tensor:
        import numpy as np
        import torch

        rows = (stored.rows[view][image.id] for image in images)
        return torch.from_numpy(np.stack([known[:count] for known in rows if known is not None]))

    def _view_plan(
        self, methods: Mapping[Method, ClassTexts], also: Sequence[ViewSource], adaptive: RuleSource | None
    ) -> ViewPlan:
        """The plan of a run, one for all shards."""
        key = tuple((method, texts.digest) for method, texts in methods.items()), tuple(also), adaptive
        if self._plan is None or self._plan[0] != key:
            plan = ViewPlan.of([*(view for method in methods for view in method.views), *also], self._spaces)
            if adaptive is not None:
                from abs_classify.encoding.adaptive_views import adaptive_rules

                rules = adaptive_rules(adaptive, methods, self.models.facts)
                texts = {method: self.text_features(methods[method]) for method in rules}
                others = [view for method in methods if method not in rules for view in method.views]
                plan = plan.with_decisions(rules, texts, [*others, *also])
            self._plan = key, plan
        return self._plan[1]

    def _rows(
        self,
        images: Sequence[IdentifiedSample],
        plan: ViewPlan,
        then: Sequence[IdentifiedSample],
        *,
        asked: bool = False,
    ) -> StoredViews:
        """The views of one shard that the plan wants; with ``asked``, what was asked for counts."""
        import numpy as np

        unique = {image.id: image for image in images}
        stored, waited = self._stored(unique, plan), False
        spaces = [self._spaces.view(view).digest for view in plan.sources]
        while pending := self._pending(list(unique.values()), stored):
            work = digest([*spaces, *(entry.image.id for entry in pending)])
            encoded: _Encoded = {}
            with self.store.claim(work) as is_mine:
                if is_mine or waited:
                    encoded = self._encode(pending, plan, self._begun(then, plan, pending))
            if not encoded:
                # another process is at it: what it computed is there when it is done, and the rest is computed here
                self.store.wait_for(work, _LONGEST_WAIT)
                stored, waited = self._stored(unique, plan), True
            for image_id, (request, computed) in encoded.items():
                for number, view in enumerate(plan.sources):
                    fresh, known = computed.features[view].numpy(), stored.rows[view].get(image_id)
                    if known is not None:
                        fresh = np.concatenate([known[: request.known[number]], fresh])
                    if image_id in unique and len(fresh):
                        stored.rows[view][image_id] = fresh
        if asked:
            self.work.images += len(unique)
            for view in plan.sources:
                wanted = sum(stored.wanted(image_id)[view] for image_id in unique)
                self.work.ask(self._spaces.view(view), len(unique), wanted)
        return stored

    def _stored(self, ids: Iterable[str], plan: ViewPlan) -> StoredViews:
        names = list(ids)
        rows = {view: self._rows_of(self._spaces.view(view), names, view.count, asked=False) for view in plan.sources}
        return StoredViews(plan, {view: dict(zip(names, known, strict=True)) for view, known in rows.items()})

    def _pending(self, images: Sequence[IdentifiedSample], stored: StoredViews) -> list[PendingImage]:
        """The images that lack a view; those that were begun as they were begun."""
        views = stored.plan.sources
        stored.decide([image.id for image in images])
        lacking = {image: stored.counts(image.id) for image in images if stored.lacks(image.id)}
        is_same = self._ahead is not None and self._ahead[0] is stored.plan
        begun = {pending.image: pending for pending in (self._announced if is_same else ())}
        if begun.keys() >= lacking.keys() and all(
            all(first <= rows for first, rows in zip(begun[image].known, lacking[image], strict=True))
            for image in lacking
        ):
            # also what another process computed meanwhile: the encoder has it already
            return self._announced if lacking else []
        return [
            replace(pending, wanted=stored.wanted(pending.image.id), features=stored.features(pending.image.id))
            for pending in self._with_attention(lacking, views)
        ]

    def _with_attention(
        self, lacking: Mapping[IdentifiedSample, tuple[int, ...]], views: Sequence[ViewSource]
    ) -> list[PendingImage]:
        """The same with the attention maps that are known of images that lack a guided view."""
        guided = [
            image
            for image, known in lacking.items()
            if any(view.needs_attention and first < view.count for view, first in zip(views, known, strict=True))
        ]
        maps = self._rows_of(self._spaces.attention, [image.id for image in guided], 1) if guided else []
        attention = {image: rows[0] for image, rows in zip(guided, maps, strict=True) if rows is not None}
        return [PendingImage(image, known, attention.get(image)) for image, known in lacking.items()]

    def _begun(
        self, then: Sequence[IdentifiedSample], plan: ViewPlan, pending: Sequence[PendingImage]
    ) -> list[PendingImage]:
        """The images of the next shard that lack a view, without those that this shard encodes.

        Of those for which decisions must tell, only images that have no view yet.
        """
        encoded_now = {entry.image.id for entry in pending}
        images = list({image.id: image for image in then if image.id not in encoded_now}.values())
        ids = [image.id for image in images]
        counts = [self.store.counts(self._spaces.view(view), ids) for view in plan.sources]
        lacking = {
            image: tuple(min(rows, view.count) for rows, view in zip(known, plan.sources, strict=True))
            for image, *known in zip(images, *counts, strict=True)
            if any(rows < plan.first_wanted(view) for rows, view in zip(known, plan.sources, strict=True))
        }
        if plan.decisions is not None:
            # what is stored of the others would have to be read
            lacking = {image: known for image, known in lacking.items() if not any(known)}
        return self._with_attention(lacking, plan.sources)

    def attention(self, images: Sequence[IdentifiedSample]) -> np.ndarray:
        """The attention maps [B, g, g] of a shard; those that the store lacks, or lost, are computed.

        Raises:
            UnreadableImage: an image cannot be read.
        """
        import numpy as np

        from abs_classify.methods.views import AttentionCrops

        ids = [image.id for image in images]
        maps = dict(zip(ids, self._rows_of(self._spaces.attention, ids, 1), strict=True))
        if missing := {image.id: image for image in images if maps[image.id] is None}:
            # a map comes with a view that it places
            plan = ViewPlan.of([AttentionCrops(1)], self._spaces)
            encoded = self._encode([PendingImage(image, (0,)) for image in missing.values()], plan, [])
            maps |= {image_id: np.asarray(computed.attention)[None] for image_id, (_, computed) in encoded.items()}
        return np.stack([rows[0] for image_id in ids if (rows := maps[image_id]) is not None])

    def known_facts(self, images: Sequence[IdentifiedSample]) -> list[ImageFacts | None]:
        """What is known of each image that was decoded in an earlier run.

        Raises:
            UnreadableImage: that run accepted a file that ends early, and this one does not.
        """
        from abs_classify.images import TRUNCATED

        facts: list[ImageFacts | None] = []
        for image, row in zip(
            images, self._rows_of(self._spaces.facts, [image.id for image in images], None), strict=True
        ):
            if row is None:
                facts.append(None)
                continue
            width, height, remarks = json.loads(row.tobytes())
            if image.truncated == "refuse" and TRUNCATED in remarks:
                image.load_unchanged()  # which raises, with the reason
            facts.append(ImageFacts(width, height, tuple(remarks)))
        return facts

    def complete_facts(
        self, images: Sequence[IdentifiedSample], known: Sequence[ImageFacts | None]
    ) -> list[ImageFacts]:
        """What is known of each image, most of the unknown of which were just encoded; it is kept for further runs.

        Raises:
            UnreadableImage: an image that must be read again cannot be.
        """
        import numpy as np

        facts = [
            known_facts or self._facts.get(image.id) or ImageFacts.of(image.load_unchanged())
            for image, known_facts in zip(images, known, strict=True)
        ]
        fresh = {}
        for image, known_facts, image_facts in zip(images, known, facts, strict=True):
            self._facts.pop(image.id, None)
            if known_facts is None:
                text = json.dumps([image_facts.width, image_facts.height, list(image_facts.remarks)])
                fresh[image.id] = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
        self._append(self._spaces.facts, [Segment(image_id, 0, row) for image_id, row in fresh.items()])
        return facts

    def _encode(self, pending: Sequence[PendingImage], plan: ViewPlan, then: list[PendingImage]) -> _Encoded:
        """What was computed of each image, by its id; it is kept, also where a later image fails."""
        self.store.require_writable()
        pipeline = self._going_on(plan, any(self._needs_backend(entry, plan.sources) for entry in (*pending, *then)))
        encoded: _Encoded = {}
        self._announced = then
        read = self.seconds.get("read", 0.0)
        try:
            with self.timed("encode"):
                for entry, result in zip(pending, pipeline.take(pending, then), strict=True):
                    encoded[entry.image.id] = entry, result
        except BaseException:
            self._announced = []
            raise
        finally:
            # images are read inside the encoding; that time is counted once
            self.seconds["encode"] -= self.seconds.get("read", 0.0) - read
            self._keep(encoded, plan.sources)
        return encoded

    def _keep(self, encoded: _Encoded, views: Sequence[ViewSource]) -> None:
        # before the views: once these are kept nobody asks for the map, and a killed run would leave a gap for good
        maps = [
            Segment(image_id, 0, image.attention.numpy()[None])
            for image_id, (pending, image) in encoded.items()
            if image.attention is not None and pending.attention is None
        ]
        self._append(self._spaces.attention, maps)
        for number, view in enumerate(views):
            segments = [
                Segment(image_id, pending.known[number], image.features[view].numpy())
                for image_id, (pending, image) in encoded.items()
                if len(image.features[view])
            ]
            self._append(self._spaces.view(view), segments)
        self.work.compute_images(encoded)

    @staticmethod
    def _needs_backend(pending: PendingImage, views: Sequence[ViewSource]) -> bool:
        return pending.attention is None and any(
            view.needs_attention and first < view.count for view, first in zip(views, pending.known, strict=True)
        )

    def _going_on(self, plan: ViewPlan, needs_backend: bool) -> _Pipeline:
        """The pipeline that may have begun already, with the shard before."""
        if self._ahead is None or self._ahead[0] is not plan or (needs_backend and not self._ahead[1]):
            self.close()
            self._ahead = plan, needs_backend, self._pipeline(plan, needs_backend)
        return self._ahead[2]

    def _pipeline(self, plan: ViewPlan, needs_backend: bool) -> _Pipeline:
        import torch

        from abs_classify.encoding.encoder import stream_images

        model, views = self._load(), plan.sources
        backend = self._load_attention_backend() if needs_backend else None

        def encode(images: Iterator[tuple[PendingImage, LoadedImage]]) -> Generator[EncodedImage, None, None]:
            requests = (pending.request(views, image) for pending, image in self._timed_reads(images))
            yield from stream_images(
                model, backend, requests, views, seed=self.seed, batch_size=self.batch_size, decisions=plan.decisions
            )

        return ReadAhead(
            PendingImage.load, encode, torch.get_num_threads(), lambda read: math.prod(read[1].pixels.size)
        )

    def close(self) -> None:
        """Drop what was begun for shards that nobody has asked for; the stages can be used again."""
        if self._ahead is not None:
            self._ahead[2].close()
        self._ahead = None
        self._announced = []
        self._facts.clear()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the wall time of the block to ``seconds``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start

    def _timed_reads(
        self, images: Iterator[tuple[PendingImage, LoadedImage]]
    ) -> Iterator[tuple[PendingImage, LoadedImage]]:
        while True:
            with self.timed("read"):
                read = next(images, None)
            if read is None:
                return
            self._facts[read[1].id] = ImageFacts.of(read[1])
            yield read

    def _load(self) -> Model:
        with self.timed("load"):
            return self.models.model

    def _load_attention_backend(self) -> AttentionBackend:
        with self.timed("load"):
            return self.models.attention_backend

    def _rows_of(
        self, space: Space, ids: Iterable[str], count: int | None, asked: bool = True
    ) -> list[np.ndarray | None]:
        names = list(ids)
        if asked:
            self.work.ask(space, len(names), len(names) * (count or 1))
        return self.store.load(space, names, count)

    def _append(self, space: Space, segments: Sequence[Segment]) -> None:
        if segments:
            self.store.append(space, segments)
            # the bytes that describe an image are no rows
            rows = 1 if space == self._spaces.facts else None
            self.work.compute(space, len(segments), sum(rows or len(segment.values) for segment in segments))


@dataclass(frozen=True)
class ModelSettings:
    """How models see images.

    Args:
        attention: where attention maps come from, see ``load_attention``.
        device: "auto", "cpu", "cuda", "cuda:1".
        dtype: of the weights: "float32", "bfloat16", "float16".
        seed: of all random numbers.
        batch_size: crops that are encoded together.
        runtime: what runs an image encoder on a CPU: "auto", "torch", "onednn", "openvino".
    """

    attention: str = "auto"
    device: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    batch_size: int = 64
    runtime: str = "auto"


def open_stages(
    store: PersistentStore, model: str, settings: ModelSettings, weights: WeightsStore | None = None
) -> Stages:
    """The stages of a model by name, which is loaded when something must be computed.

    Args:
        store: where results are kept; digests of files and what models compute from their weights go beside it.
        model: as ``load_model`` takes it, or the name under which it was imported.
        settings: how the model sees images.
        weights: models that were imported, if there are any.

    Raises:
        WeightsError: a record of an imported model is damaged.
    """
    name, attention = model, settings.attention
    if weights is not None and (model != EMBEDDED or attention not in ("auto", "self", "norm", "none")):
        from abs_classify.models.registry import local_names

        name, attention = local_names(weights, model, attention)
    digests = DigestCache(store.root)
    models = DeferredModel(
        name, attention, settings.device, settings.dtype, digests, store.root / DERIVED, settings.runtime
    )
    return Stages(store, models, settings.seed, settings.batch_size, scratch=store.root)
