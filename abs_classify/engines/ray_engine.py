"""Ray Data runs the workers; the driver deals out shards, checks what came into the store, and gives images in order.

Rows are descriptors of shards, a few kilobytes each: the locations of some images, and their ids where they are known.
Manifests come back. Images and features never enter Ray's object store. A shard whose worker died is done again by
another one, in smaller parts, until the image that kills workers is alone; then it is left out, with that reason.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.samples import IdentifiedSample, batched, known_ids, remember_ids
from abs_classify.encoding.stage_spaces import StageSpaces
from abs_classify.engines.ray_output import keep_output_clean, kept_signals, quiet_core, quiet_data
from abs_classify.engines.shard_worker import (
    ShardManifest,
    ShardWorker,
    WorkerProblem,
    WorkerSetup,
    pack_samples,
    relevant_versions,
)
from abs_classify.models.deferred import LoadedModel
from abs_classify.plugins import plugin_files
from abs_core.errors import AbsError, EngineError, ImageError, UsageError
from abs_core.extras import require
from abs_core.text import counted, printable

if TYPE_CHECKING:
    from abs_classify.datasets.base import Sample
    from abs_classify.encoding.stages import Stages
    from abs_classify.engines.base import EncodingTask

__all__ = ["RayEngine"]

G = TypeVar("G")

_logger = logging.getLogger(__name__)

#: Images of a shard: enough that a worker's batches are full, and few enough that a lost shard costs little.
SHARD_IMAGES = 128

# shards for each worker, where there are images enough
_SHARDS_AT_LEAST = 4

# a worker writes a pack after as many images, and a shard is one or several of these
_PACK_IMAGES = 32

# shards of a worker until the workers are started anew, with which the driver's memory stays bounded
_SHARDS_PER_WORKER = 1024

# rounds that Ray ends before their time, and without a shard that is done, in a row
_FRUITLESS = 3

# images whose ids and features are looked up in one step
_LOOK_UP = 512

# how often Ray gives a shard to another worker by itself, and how often an image kills a worker before it is left out
_RETRIES, _DEATHS = 2, 3

# parts of a shard that its worker did not survive
_PARTS = 8

# bytes of the object store of a local Ray: rows and manifests take a few kilobytes
_OBJECT_STORE = 128 << 20

# seconds until what a worker wrote must be seen here: network file systems remember listings for a while
_VISIBLE_WITHIN, _FIRST_LOOK = 60.0, 0.05

# Read by Ray at its start only. What Ray's core logs of workers that die is told of here.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
# Has a local Ray listen on the loopback interface alone, whatever it is called.
_LOCAL_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@dataclass(eq=False)
class _DealtShard:
    """Some images of a wave.

    Args:
        places: of the images in the wave.
        deaths: workers that died of it, where it is one image.
    """

    places: Sequence[int]
    deaths: int = 0


class RayEngine:
    """Workers on a Ray cluster, or on this machine, see ``Engine``.

    Args:
        address: of a cluster, as ``ray.init`` takes it; None for the one in RAY_ADDRESS, else a local one.
        workers: how many processes, each with a model; None for as many as the cluster has room for now.
        cpus_per_worker: cores of each, and threads of its torch.
        gpus_per_worker: GPUs of each; a part of one lets workers share it.
        shard_images: images of a shard, at most.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        cpus_per_worker: int = 1,
        gpus_per_worker: float = 0.0,
        *,
        shard_images: int = SHARD_IMAGES,
    ) -> None:
        numbers = {"workers": workers, "cpus-per-worker": cpus_per_worker, "shard images": shard_images}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, got {number}", remedy="Give a larger number")
        if gpus_per_worker < 0:
            raise UsageError(
                f"gpus-per-worker must not be negative, got {gpus_per_worker}", remedy="Give 0 for none, or more"
            )
        self.address, self.workers = address, workers
        self.cpus_per_worker, self.gpus_per_worker = cpus_per_worker, gpus_per_worker
        self.shard_images = shard_images
        self._is_started = False

    def encode(
        self,
        groups: Iterable[G],
        samples_of: Callable[[G], Sequence[Sample | None]],
        stages: Stages,
        task: EncodingTask,
    ) -> Iterator[tuple[G, Mapping[int, AbsError]]]:
        """See ``Engine``."""
        setup = self._setup(stages, task)
        for part in _waves(groups, samples_of, _SHARDS_PER_WORKER * self.shard_images * (self.workers or 1)):
            samples = [sample for _, of_group in part for sample in of_group]
            with closing(_Wave(self, samples, stages, task, setup)) as wave:
                start = 0
                for group, of_group in part:
                    failures = wave.failures(start, start + len(of_group))
                    yield group, {place - start: error for place, error in failures.items()}
                    start += len(of_group)

    def close(self) -> None:
        """See ``Engine``. A Ray that was there before stays."""
        if self._is_started:
            self._is_started = False
            sys.modules["ray"].shutdown()

    # --- what workers are given --------------------------------------------------------------------------------------

    def _setup(self, stages: Stages, task: EncodingTask) -> WorkerSetup:
        """What every worker is given.

        Raises:
            UsageError: the store, the model or the device is one of this process or machine alone.
        """
        store, models = stages.store, stages.models
        if isinstance(store, MemoryStore):
            raise UsageError(
                "workers put features into a cache that all machines share, and this run has none",
                remedy="Name a folder or bucket that all machines share: cache=..., or --cache DIR",
            )
        if isinstance(models, LoadedModel):
            raise UsageError(
                f"the model {models.label!r} is loaded in this process, and workers load their own",
                remedy="Give the name of a model; register_model in a plugin gives yours a name",
            )
        return WorkerSetup(
            store=pickle.dumps(store, pickle.HIGHEST_PROTOCOL),
            place=getattr(store, "place", ""),
            models=models.on_worker(models.facts, self._device(models.device), DigestCache(None)),
            facts=models.facts,
            seed=stages.seed,
            batch_size=stages.batch_size,
            task=self._pickled(task),
            plugins=plugin_files(),
            threads=self.cpus_per_worker,
            versions=relevant_versions(),
            folder=str(Path.cwd()),
        )

    def _device(self, device: str) -> str:
        if device == "auto":
            return "cuda" if self.gpus_per_worker else "cpu"
        if (device == "cpu") == bool(self.gpus_per_worker) or ":" in device:
            raise UsageError(
                f"the device {device!r} does not go with {self.gpus_per_worker:g} GPUs per worker: which GPU a worker "
                "gets is decided by Ray",
                remedy="Leave out --device; --gpus-per-worker decides",
            )
        return device

    @staticmethod
    def _pickled(task: EncodingTask) -> bytes:
        try:
            return pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise UsageError(
                f"a method or a view cannot be sent to workers: {printable(str(error), 200)}",
                remedy="Define its class at the top of a module or plugin file",
            ) from error

    # --- Ray ---------------------------------------------------------------------------------------------------------

    def start(self) -> Any:
        """Ray, connected, or started on this machine.

        Raises:
            MissingExtraError: Ray is not installed.
            EngineError: there is no cluster at the address.
        """
        address = self.address or os.environ.get("RAY_ADDRESS")
        if "ray" not in sys.modules:
            for name, value in {**_ENVIRONMENT, **({} if address else _LOCAL_ENVIRONMENT)}.items():
                os.environ.setdefault(name, value)
        ray = require("ray")
        require("ray.data")  # which sets up its log when it is imported
        keep_output_clean(address)
        if ray.is_initialized():
            return ray
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}
        if not address:
            workers = self.workers or max(1, (os.cpu_count() or 1) // self.cpus_per_worker)
            options |= {
                "address": "local",
                "num_cpus": workers * self.cpus_per_worker,
                "object_store_memory": _OBJECT_STORE,
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
            }
            _logger.info("starting Ray on this machine, with %s", counted(workers, "worker", "workers"))
        else:
            options["address"] = address
        with kept_signals(), quiet_core():
            try:
                ray.init(**options)
            except Exception as error:  # Ray raises nothing narrower where a node takes too long to start
                problem = f"Ray cannot be used at {address or 'this machine'}: {printable(str(error), 200)}"
                cure = "Check --address with `ray status`" if address else "Try again when the machine is less busy"
                raise EngineError(problem, remedy=cure) from error
        self._is_started = True
        return ray

    def worker_count(self, ray: Any) -> int:
        """How many workers to start, with a warning where the cluster has no room for them now."""
        resources = ray.cluster_resources()
        room = int(resources.get("CPU", 0) // self.cpus_per_worker)
        if self.gpus_per_worker:
            room = min(room, int(resources.get("GPU", 0) / self.gpus_per_worker))
        if self.workers is None:
            return max(1, room)
        if room < self.workers:
            _logger.warning(
                "the cluster has room for %d of %d workers with %d cores and %g GPUs: the others start when it grows",
                room,
                self.workers,
                self.cpus_per_worker,
                self.gpus_per_worker,
            )
        return self.workers

    def shard_size(self, images: int, workers: int) -> int:
        """How many of ``images`` a shard gets: fewer where a worker would have few shards, so that all end together."""
        packs = -(-images // (_SHARDS_AT_LEAST * workers * _PACK_IMAGES))
        return min(self.shard_images, packs * _PACK_IMAGES)


def _waves(
    groups: Iterable[G], samples_of: Callable[[G], Sequence[Sample | None]], images: int
) -> Iterator[list[tuple[G, Sequence[Sample | None]]]]:
    """The groups with their images, as many at a time as have about so many images."""
    part: list[tuple[G, Sequence[Sample | None]]] = []
    size = 0
    for group in groups:
        samples = samples_of(group)
        part.append((group, samples))
        size += len(samples)
        if size >= images:
            yield part
            part, size = [], 0
    if part:
        yield part


class _RayWorker:
    """A worker as Ray Data calls it: a row in, a row out."""

    def __init__(self, setup: bytes) -> None:
        # opened for the first row: an error of the constructor would end the whole run
        self._setup = setup
        self._worker: ShardWorker | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._worker is None:
            self._worker = ShardWorker(pickle.loads(self._setup))  # noqa: S301 - of the run itself
        manifest = self._worker.encode(row["samples"])
        return {"shard": row["shard"], "manifest": pickle.dumps(manifest, pickle.HIGHEST_PROTOCOL)}


@dataclass(eq=False)
class _Round:
    """What became of the shards that were dealt out together.

    Args:
        workers: how many there are.
        done: whether a shard was done.
        failed: those of which a worker said that it cannot do them.
        lost: those of which nothing came back, since their workers died.
        problems: what workers said, the last of each since a shard was done.
        is_whole: whether all shards were tried.
        reason: what Ray said where they were not.
    """

    workers: int = 1
    done: bool = False
    failed: list[_DealtShard] = field(default_factory=list)
    lost: list[_DealtShard] = field(default_factory=list)
    problems: dict[str, WorkerProblem] = field(default_factory=dict)
    is_whole: bool = True
    reason: str = ""

    @property
    def is_hopeless(self) -> bool:
        """Whether every worker has a problem, and none has done anything since."""
        return len(self.problems) >= self.workers


class _Wave:
    """Images that are dealt out together.

    Args:
        engine: that has them encoded.
        samples: the images; None for one that the run reads itself.
        stages: of the run.
        task: what is needed of the images.
        setup: what workers are given.
    """

    def __init__(
        self,
        engine: RayEngine,
        samples: Sequence[Sample | None],
        stages: Stages,
        task: EncodingTask,
        setup: WorkerSetup,
    ) -> None:
        self._engine, self._samples, self._stages, self._task, self._setup = engine, samples, stages, task, setup
        self._probe = stages.for_run(stages.store)
        self._ids: dict[int, str] = {}
        self._errors: dict[int, AbsError] = {}
        self._done = bytearray(len(samples))
        self._running = self._run()

    def close(self) -> None:
        """Stop the workers."""
        self._running.close()

    def failures(self, start: int, end: int) -> dict[int, AbsError]:
        """Wait until the images from ``start`` to ``end`` are done, and give the errors of those that failed."""
        while not all(self._done[start:end]):
            next(self._running)
        return {place: self._errors[place] for place in range(start, end) if place in self._errors}

    def _run(self) -> Generator[None, None, None]:
        """Have everything done, with a pause after each shard."""
        pending: list[int] = []
        for places in batched(range(len(self._samples)), _LOOK_UP):
            pending += self._pending(places)
            yield
        shards = []
        if pending:
            workers = self._engine.workers or self._engine.worker_count(self._engine.start())
            size = self._engine.shard_size(len(pending), workers)
            shards = [_DealtShard(places) for places in batched(pending, size)]
        is_first, fruitless = True, 0
        while shards:
            outcome = _Round()
            yield from self._deal(shards, outcome, is_first=is_first)
            if outcome.is_hopeless or (outcome.problems and not any(self._done)):
                raise next(iter(outcome.problems.values())).error()
            if outcome.problems and not outcome.done:
                self._leave(outcome)
            fruitless = 0 if outcome.done or outcome.is_whole else fruitless + 1
            if fruitless == _FRUITLESS:
                raise EngineError(
                    f"Ray ended {_FRUITLESS} rounds without a shard that was done: {outcome.reason}",
                    remedy="Give fewer --workers or a smaller --batch-size if memory is short; Ray's logs tell more",
                )
            shards = [*outcome.failed, *self._divided(outcome)]
            is_first = False
            yield

    def _pending(self, places: Sequence[int]) -> list[int]:
        """The images of which the store lacks something, or of which only reading could tell."""
        here = {place: sample for place in places if (sample := self._samples[place]) is not None}
        ids = dict(zip(here, known_ids(list(here.values()), self._stages.models.digests), strict=True))
        self._ids |= {place: image_id for place, image_id in ids.items() if image_id is not None}
        known = {place: self._image(place) for place in here if place in self._ids}
        task = self._task
        lacking = set(self._probe.lacking(list(known.values()), task.methods, task.views, task.adaptive))
        pending = [place for place in here if place not in known or known[place] in lacking]
        for place in set(places) - set(pending):
            self._done[place] = True
        return pending

    def _image(self, place: int) -> IdentifiedSample:
        return IdentifiedSample(self._image_sample(place), self._ids[place], self._task.truncated)

    def _deal(self, shards: Sequence[_DealtShard], outcome: _Round, *, is_first: bool) -> Generator[None, None, None]:
        """Have shards done by workers."""
        ray = self._engine.start()
        outcome.workers = self._engine.worker_count(ray)
        left = dict(enumerate(shards))
        try:
            with quiet_data(), closing(self._rows(outcome.workers, left, is_first=is_first)) as rows:
                for row in rows:
                    self._take(left.pop(row["shard"]), pickle.loads(row["manifest"]), outcome)  # noqa: S301
                    yield
                    if outcome.is_hopeless:
                        return
        except ray.exceptions.RayError as error:
            outcome.is_whole = False
            outcome.reason = printable((str(error).strip() or repr(error)).splitlines()[-1], 200)
            _logger.warning("Ray: %s", outcome.reason)
        outcome.lost = list(left.values())
        if left:
            _logger.warning(
                "%s lost with their workers, and done again", counted(len(left), "shard was", "shards were")
            )

    def _rows(self, workers: int, shards: Mapping[int, _DealtShard], *, is_first: bool) -> Generator[Any, None, None]:
        """The rows that workers give back for shards, as they come."""
        ray, ray_data = require("ray"), require("ray.data")

        engine = self._engine
        rows = [{"shard": number, "samples": self._packed(shard)} for number, shard in shards.items()]
        dataset = ray_data.from_items(rows, override_num_blocks=len(rows))
        context = dataset.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # an exception of a worker is part of its manifest, and a row that is lost is dealt out again
        context.actor_task_retry_on_errors = False
        has_single_images = all(len(shard.places) == 1 for shard in shards.values())
        context.max_errored_blocks = -1 if has_single_images else 8 + 4 * workers
        with warnings.catch_warnings():
            # of remote arguments without a name of their own, which those of restarts do not have yet
            warnings.filterwarnings("ignore", message=r"`ray_remote_args`", category=DeprecationWarning)
            results = dataset.map(
                _RayWorker,
                fn_constructor_args=(pickle.dumps(self._setup, pickle.HIGHEST_PROTOCOL),),
                # No shard waits at a worker: one that kills the worker would take it along, and the first worker to be
                # ready would be given what others, which are still starting, could do.
                compute=ray_data.ActorPoolStrategy(size=min(workers, len(rows)), max_tasks_in_flight_per_actor=1),
                num_cpus=engine.cpus_per_worker,
                num_gpus=engine.gpus_per_worker or None,
                max_restarts=-1,
                max_task_retries=_RETRIES if is_first else 0,
            )
        try:
            yield from results.iter_rows()
        except ray.exceptions.RayError:
            raise
        except Exception as error:  # its books can be wrong after a worker died in an unlucky moment
            raise ray.exceptions.RayError(f"Ray Data failed: {error!r}") from error

    def _packed(self, shard: _DealtShard) -> bytes:
        samples = [(self._image_sample(place), self._ids.get(place)) for place in shard.places]
        return pack_samples(samples)

    def _image_sample(self, place: int) -> Sample:
        sample = self._samples[place]
        assert sample is not None  # only those are dealt out
        return sample

    def _take(self, shard: _DealtShard, manifest: ShardManifest, outcome: _Round) -> None:
        """Take in what a worker says of a shard."""
        problem = manifest.problem or self._unseen(shard, manifest)
        if problem is None:
            self._remember(shard, manifest)
            problem = self._missing(manifest)
        if problem is not None:
            if problem.worker not in outcome.problems:
                _logger.warning("the %s: %s", problem.worker, printable(problem.message, 300))
            outcome.problems[problem.worker] = problem
            outcome.failed.append(shard)
            return
        outcome.problems.clear()
        outcome.done = True
        self._stages.work.add_computed(manifest.work)
        for place in shard.places:
            self._done[place] = True

    def _unseen(self, shard: _DealtShard, manifest: ShardManifest) -> WorkerProblem | None:
        """An image that a worker cannot read, and this machine can."""
        for position, reason in manifest.unread.items():
            with suppress(AbsError):
                self._image_sample(shard.places[position]).read()
                remedy = "Mount the images at the same path on every machine"
                return WorkerProblem(f"{reason}, which the machine that runs the command can", remedy, manifest.worker)
        return None

    def _remember(self, shard: _DealtShard, manifest: ShardManifest) -> None:
        """Keep the ids that a worker found."""
        fresh = []
        for place, image_id, state in zip(shard.places, manifest.ids, manifest.states, strict=True):
            if image_id is not None and place not in self._ids:
                self._ids[place] = image_id
                if state is not None:
                    fresh.append((self._image_sample(place), state, image_id))
        remember_ids(fresh, self._stages.models.digests)

    def _missing(self, manifest: ShardManifest) -> WorkerProblem | None:
        """Features that a worker says it wrote, and that do not come into view."""
        undecoded = set(manifest.undecoded)
        ids = [
            image_id
            for position, image_id in enumerate(manifest.ids)
            if image_id is not None and position not in undecoded
        ]
        spaces, views = StageSpaces(self._stages.models, self._stages.seed), self._task.views
        wanted = {view: view.count for view in spaces.largest(views).values()}
        end, pause = time.monotonic() + _VISIBLE_WITHIN, _FIRST_LOOK
        while missing := spaces.lacking(self._stages.store, ids, wanted):
            if time.monotonic() > end:
                return WorkerProblem(
                    f"what it wrote of {counted(len(missing), 'image', 'images')} into the cache {self._setup.place!r} "
                    "is not there",
                    "Let --cache name a folder that all machines share, with room for the features (--cache-size)",
                    manifest.worker,
                )
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
            self._stages.store.refresh()
        return None

    def _leave(self, outcome: _Round) -> None:
        """Leave to the run what others could not do where one worker after the other did the rest."""
        _logger.warning("%s left to this machine", counted(len(outcome.failed), "shard is", "shards are"))
        for shard in outcome.failed:
            for place in shard.places:
                self._done[place] = True
        outcome.failed.clear()

    def _divided(self, outcome: _Round) -> list[_DealtShard]:
        """Smaller shards for those that were lost; an image that is alone and kills its workers is given up."""
        shards = []
        for shard in outcome.lost:
            if len(shard.places) > 1:
                shards += [_DealtShard(places) for places in batched(shard.places, -(-len(shard.places) // _PARTS))]
                continue
            (place,) = shard.places
            shard.deaths += outcome.is_whole
            if shard.deaths < _DEATHS:
                shards.append(shard)
                continue
            self._errors[place] = ImageError(
                f"cannot read the image {self._image_sample(place).name!r}: {_DEATHS} workers died of it",
                remedy="Remove it, or look at it with another tool first",
            )
            self._done[place] = True
        return shards
