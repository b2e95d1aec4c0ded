"""What a worker does: it encodes shards of images into the shared feature store, and says what it did.

A worker runs the ordinary loop of this toolkit over a shard. It keeps what it computed every few images, so a shard
that is done again, because its worker was killed, costs only what was not kept. Nothing here knows how workers start.
"""

from __future__ import annotations

import os
import pickle
import socket
import tempfile
import time
import traceback
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from abs_classify.encoding.digest_cache import FileState
from abs_classify.encoding.samples import IdentifiedSample, batched, identify
from abs_classify.encoding.work import WorkCounts
from abs_classify.plugins import PluginFile, load_plugin_copies
from abs_core.errors import AbsError, EngineError, StorageError, WeightsError
from abs_core.extras import DISTRIBUTION, installed_version
from abs_core.locations import is_address

if TYPE_CHECKING:
    from abs_classify.datasets.base import Sample
    from abs_classify.encoding.spaces import PersistentStore
    from abs_classify.encoding.stages import Stages
    from abs_classify.engines.base import EncodingTask
    from abs_classify.models.deferred import DeferredModel, ModelFacts

__all__ = ["ShardManifest", "ShardWorker", "WorkerProblem", "WorkerSetup", "pack_samples", "relevant_versions"]

# seconds that a worker waits which cannot do its part, so that it does not take the shards of those that can
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


@dataclass(frozen=True)
class WorkerProblem:
    """Why a worker could not do a shard.

    Args:
        message, remedy: as of an error.
        worker: names the process and its machine.
    """

    message: str
    remedy: str
    worker: str

    def error(self) -> EngineError:
        """The error of a run that this ends."""
        return EngineError(f"the {self.worker} cannot go on: {self.message}", remedy=self.remedy)


@dataclass(frozen=True)
class ShardManifest:
    """What became of a shard.

    Args:
        worker: names the process and its machine.
        ids: of each image its content id; None where its bytes could not be read.
        states: of each image the state of its file before it was read; None where that cannot be told.
        unread: by the place of an image, why its bytes could not be read.
        undecoded: the places of images that have no features, since they are damaged.
        work: what was computed.
        problem: why the shard is not done.
    """

    worker: str
    ids: Sequence[str | None] = ()
    states: Sequence[FileState | None] = ()
    unread: Mapping[int, str] = field(default_factory=dict)
    undecoded: Sequence[int] = ()
    work: WorkCounts = field(default_factory=WorkCounts)
    problem: WorkerProblem | None = None


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker is given.

    Args:
        store: the feature store, pickled, which opens it at the same place.
        place: the folder or the address of the store.
        models: not loaded, as ``DeferredModel.on_worker`` gives them.
        facts: of the models, as the run that asks knows them.
        seed, batch_size: of the stages.
        task: what is needed of the images, pickled: its parts may be of plugins.
        plugins: the files that the run has loaded.
        threads: of torch.
        versions: of this toolkit and of Pillow, which decodes and resizes, where the run is.
        folder: the working folder of the run, where relative names start.
    """

    store: bytes
    place: str
    models: DeferredModel
    facts: ModelFacts
    seed: int
    batch_size: int
    task: bytes
    plugins: Sequence[PluginFile]
    threads: int
    versions: Mapping[str, str]
    folder: str


def pack_samples(samples: Sequence[tuple[Sample, str | None]]) -> bytes:
    """Images, and their content ids as far as they are known, as a few bytes each."""
    return zlib.compress(pickle.dumps(samples, pickle.HIGHEST_PROTOCOL), 1)


def _unpack_samples(data: bytes) -> list[tuple[Sample, str | None]]:
    """What ``pack_samples`` made. Only for what the run itself has sent."""
    samples: list[tuple[Sample, str | None]] = pickle.loads(zlib.decompress(data))  # noqa: S301 - see above
    return samples


class ShardWorker:
    """Encodes shards; loads the model for the first one.

    Args:
        setup: what it is given.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        self._opened: tuple[Stages, EncodingTask] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="abs-worker-")
        self._problems = 0
        self.name = f"worker {os.getpid()} on {socket.gethostname()}"

    def encode(self, data: bytes) -> ShardManifest:
        """Encode a shard of ``pack_samples``. What goes wrong is part of the manifest."""
        try:
            manifest = self._encode(data)
        except AbsError as error:
            problem = WorkerProblem(error.message, error.remedy, self.name)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            problem = WorkerProblem(
                f"{type(error).__name__} in {where}: {error}",
                "Run the command without --engine ray to see whether it is the same there",
                self.name,
            )
        else:
            self._problems = 0
            return manifest
        if self._problems:
            time.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._problems))
        self._problems += 1
        return ShardManifest(self.name, problem=problem)

    def _encode(self, data: bytes) -> ShardManifest:
        from abs_classify.encoding.ranking import ShardScorer
        from abs_classify.encoding.stages import SHARD

        stages, task = self._stages()
        samples = _unpack_samples(data)
        states = [_state(sample) for sample, _ in samples]
        images: list[IdentifiedSample | None] = []
        unread: dict[int, str] = {}
        for place, (sample, known) in enumerate(samples):
            entry = identify([sample], stages.models.digests, truncated=task.truncated)[0] if known is None else None
            image = IdentifiedSample(sample, known, task.truncated) if known is not None else entry
            if isinstance(image, IdentifiedSample):
                images.append(image)
            else:
                assert image is not None  # it was identified
                images.append(None)
                unread[place] = image.error.message
        stages.work = WorkCounts()
        scorer = ShardScorer(stages, task.methods, "skip", also=task.views, adaptive=task.adaptive)
        readable = [image for image in images if image is not None]
        for _ in scorer.score(batched(readable, SHARD)):
            pass
        stages.store.flush()
        return ShardManifest(
            self.name,
            [None if image is None else image.id for image in images],
            states,
            unread,
            [place for place, image in enumerate(images) if image in scorer.skipped],
            stages.work,
        )

    def _stages(self) -> tuple[Stages, EncodingTask]:
        """The stages and the task, after the model is loaded and found to be the right one.

        Raises:
            EngineError: another version of this toolkit.
            WeightsError, ModelError: no such weights on this machine, or others.
        """
        if self._opened is None:
            setup = self._setup
            _check_versions(setup.versions)
            with suppress(OSError):
                os.chdir(setup.folder)
            # before torch starts its threads, as the command line does
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            load_plugin_copies(setup.plugins, Path(self._folder.name))
            task: EncodingTask = pickle.loads(setup.task)  # noqa: S301 - of the run itself
            import torch

            from abs_classify.encoding.stages import Stages

            torch.set_num_threads(setup.threads)
            _require_shared(setup.place)
            store: PersistentStore = pickle.loads(setup.store)  # noqa: S301 - of the run itself
            store.require_writable()
            stages = Stages(store, setup.models, setup.seed, setup.batch_size)
            _check_models(stages, setup.facts, task)
            self._opened = stages, task
        return self._opened


def relevant_versions() -> dict[str, str]:
    """The versions that must be the same on every machine."""
    return {package: installed_version(package) for package in (DISTRIBUTION, "pillow")}


def _check_versions(wanted: Mapping[str, str]) -> None:
    for package, version in relevant_versions().items():
        if version != wanted[package]:
            raise EngineError(
                f"it has {package} {version or '(none)'}, and the machine that runs the command has {wanted[package]}",
                remedy="Install the same versions on every machine",
            )


def _state(sample: Sample) -> FileState | None:
    with suppress(AbsError):
        return FileState.of(sample.path)
    return None


def _require_shared(place: str) -> None:
    """Make sure that a folder is there already: one that a worker made would be its own.

    Raises:
        StorageError: it is not.
    """
    if not is_address(place) and not Path(place).is_dir():
        raise StorageError(
            f"the cache folder {place!r} is not there",
            remedy="Mount it at the same path on every machine, or name a folder or bucket that all share with --cache",
        )


def _check_models(stages: Stages, facts: ModelFacts, task: EncodingTask) -> None:
    """Load the models, and refuse those whose features would be others.

    Raises:
        WeightsError: they are not those of the run.
    """
    model = stages.models.model
    digests = [(model.digest, facts.model, stages.models.label)]
    views = [*task.views, *(view for method in task.methods for view in method.views)]
    if any(view.needs_attention for view in views):
        backend = stages.models.attention_backend
        digests.append((backend.digest, facts.attention, stages.models.attention_label))
    for digest, wanted, name in digests:
        if digest != wanted:
            raise WeightsError(
                f"the weights of {name} are not those of the machine that runs the command",
                remedy="Copy the same files to every machine; `abs models verify` shows their digests",
            )
