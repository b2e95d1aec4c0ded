"""What runs the blocks of an image encoder on a CPU: torch's own modules, oneDNN with prepacked weights, or OpenVINO.

``auto`` takes what is fastest here: one block is timed in each runtime at the shapes of a run, in as many threads. The
choice is remembered for the model, the machine and the versions of the packages. It never lowers precision, and in
float32 never changes a result: it takes only what agrees with torch's unit features within ``AGREEMENT``, and such
runtimes share torch's feature space. All others, and every runtime but torch in bfloat16, have a space of their own:
``RuntimeChoice.digest_part`` enters the digest of the model.

Networks whose blocks are not plain (``abs_classify.models.block_stack``), accelerators and float16 stay with torch.
"""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from abs_classify.models.block_stack import BlockStack, OneDnnStack, OpenVinoStack, PlainBlock, read_block
from abs_classify.models.runtime_names import RUNTIMES, Remember, machine_key
from abs_classify.threads import in_threads
from abs_core.errors import UnknownNameError, UsageError
from abs_core.extras import is_installed, require
from abs_core.text import printable

__all__ = ["AGREEMENT", "RuntimeChoice", "fit_runtime", "has_plain_blocks"]

_logger = logging.getLogger(__name__)

#: Largest difference of unit features from torch's in float32 with which a runtime shares torch's feature space.
AGREEMENT = 1e-6

# images that a thread encodes at once, as in abs_classify.encoding.encoder
_BATCH = 4
# most seconds for timing a candidate; its first call, on one image, is not counted
_SECONDS = 0.5
_ROUNDS = 5
# one that takes more than this many times as long for its first image is not timed any further
_HOPELESS = 3.0
# what a runtime must save to be chosen over one that comes before it in the list
_WORTHWHILE = 0.95
# weights of a block from which on timing is worth the seconds that it takes
_SMALLEST = 1_000_000
# the least cosine to torch's features in float32 of a runtime that works
_SOUND = 0.99
_VERSION = 1


@dataclass(frozen=True)
class RuntimeChoice:
    """What runs the blocks of a network.

    Args:
        name: ``torch``, ``onednn`` or ``openvino``.
        shares_space: whether the features count as torch's in the same dtype.
        difference: the largest of unit features from torch's in float32; 0 for torch itself.
        times: seconds of a block in each runtime that was timed.
        tokens: T of an image.
        problem: why a runtime cannot run here; empty if all can.
    """

    name: str
    shares_space: bool = True
    difference: float = 0.0
    times: Mapping[str, float] | None = None
    tokens: int = 0
    problem: str = ""

    @property
    def digest_part(self) -> dict[str, str]:
        """What enters the digest of a model: nothing where the features are torch's."""
        return {} if self.shares_space else {"runtime": self.name}


_TORCH = RuntimeChoice("torch")


def fit_runtime(
    network: nn.Module,
    runtime: str,
    *,
    dtype: torch.dtype,
    device: torch.device,
    image_size: tuple[int, int],
    keep_last: bool,
    files: Sequence[Path] = (),
    remember: Remember | None = None,
) -> RuntimeChoice:
    """Choose a runtime and put its blocks in the place of the network's, whose weights are released.

    Args:
        network: the image encoder of an open_clip model or a timm vision transformer, float32 on the CPU, in eval mode.
        runtime: one of ``RUNTIMES``.
        dtype: in which the network is to run.
        device: where it is to run.
        image_size: height and width of its input.
        keep_last: leave the last block as it is, since only a part of its output is needed.
        files: of its weights, for ``remember``.
        remember: keeps the choice; without it it is made anew.

    Raises:
        UnknownNameError: no such runtime.
        UsageError: a runtime of the CPU on another device.
        MissingExtraError: ``openvino`` is asked for and not installed.
    """
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    if device.type != "cpu":
        if runtime in ("onednn", "openvino"):
            raise UsageError(
                f"the runtime {runtime} computes on the CPU, and the device is {str(device)!r}",
                remedy="Choose --runtime auto or --device cpu",
            )
        return _TORCH
    place = _BlockPlace.find(network)
    if runtime == "torch" or dtype not in _DTYPES or place is None:
        if runtime in ("onednn", "openvino"):
            reason = f"{runtime} has no {_name(dtype)}" if place else "its blocks are not plain transformer blocks"
            _logger.warning("the image encoder runs in torch: %s", reason)
        return _TORCH
    if runtime == "openvino":
        require("openvino")
    if runtime == "auto" and sum(weight.numel() for weight in place.blocks[0].parameters()) < _SMALLEST:
        return _TORCH
    with torch.inference_mode():
        probe = _Probe(network, place, dtype, image_size, keep_last)
        threads = _threads() if runtime == "auto" and dtype == torch.float32 else None
        inputs = json.dumps(["runtime", _VERSION, keep_last, *machine_key(runtime, _name(dtype), threads=threads)])
        decide = partial(_decide, probe, runtime)
        text = remember(inputs, files, decide) if remember is not None else decide()
        choice = probe.install(RuntimeChoice(**json.loads(text)))
    if choice.problem:
        level = logging.INFO if runtime == "auto" else logging.WARNING
        _logger.log(level, "the image encoder runs in %s: %s", choice.name, choice.problem)
    return choice


_DTYPES = (torch.float32, torch.bfloat16)


def has_plain_blocks(network: nn.Module) -> bool:
    """Whether another runtime than torch can run the blocks of an image encoder."""
    return _BlockPlace.find(network) is not None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _threads() -> int:
    return torch.get_num_threads()


@dataclass(frozen=True)
class _BlockPlace:
    """The attribute of a network that holds its plain blocks."""

    owner: Any
    attribute: str
    container: Callable[[list[nn.Module]], nn.Module]

    @classmethod
    def find(cls, network: Any) -> _BlockPlace | None:
        """None where a block is not plain, or where there are fewer than two."""
        from open_clip.timm_model import TimmModel
        from open_clip.transformer import VisionTransformer as OpenClipTransformer
        from timm.models.vision_transformer import VisionTransformer

        trunk = network.trunk if isinstance(network, TimmModel) else network
        if isinstance(trunk, OpenClipTransformer) and trunk.transformer.batch_first:
            place = cls(trunk.transformer, "resblocks", nn.ModuleList)
        elif isinstance(trunk, VisionTransformer):
            place = cls(trunk, "blocks", lambda blocks: nn.Sequential(*blocks))
        else:
            return None
        blocks = place.blocks
        return place if len(blocks) > 1 and all(read_block(block) for block in blocks) else None

    @property
    def blocks(self) -> list[nn.Module]:
        return list(getattr(self.owner, self.attribute))

    def put(self, blocks: list[nn.Module]) -> None:
        setattr(self.owner, self.attribute, self.container(blocks))


@dataclass(frozen=True)
class _Probe:
    """A network whose blocks are tried in other runtimes."""

    network: nn.Module
    place: _BlockPlace
    dtype: torch.dtype
    image_size: tuple[int, int]
    keep_last: bool

    def install(self, choice: RuntimeChoice) -> RuntimeChoice:
        """Put the chosen runtime in the place of the blocks; torch stays where the choice cannot run any more."""
        if choice.name == "torch":
            return choice
        blocks = self.place.blocks
        try:
            # fails where the operators are gone, while all blocks are still there
            self._stack(choice.name, blocks[:1], choice.tokens)(torch.zeros(1, 2, _width(blocks[0])))
        except _FAILURES as error:
            return RuntimeChoice("torch", problem=_problem(choice.name, error))
        self.place.put([])
        self.place.put(self._replacement(choice.name, blocks, choice.tokens))
        return choice

    def _replacement(self, name: str, blocks: list[nn.Module], tokens: int) -> list[nn.Module]:
        """The blocks in a runtime; ``blocks`` is emptied, so that oneDNN never holds more than one of them twice."""
        last = blocks.pop()
        stack = self._stack(name, blocks, tokens)
        return [stack, last if self.keep_last else self._stack(name, [last], tokens)]

    def _stack(self, name: str, blocks: list[nn.Module], tokens: int) -> BlockStack:
        """A stack of the blocks of a list, which is emptied."""
        reads = []
        while blocks:
            reads.append(partial(_read_plain, [blocks.pop(0)]))
        if name == "onednn":
            return OneDnnStack(reads, self.dtype, _BATCH * tokens)
        return OpenVinoStack(reads, self.dtype, _threads())

    def observe(self) -> tuple[Tensor, Tensor]:
        """Of an image: its unit feature [1, d] in float32, and the input of the first block [1, T, w]."""
        seen: list[Tensor] = []
        hook = self.place.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            return self.feature(), seen[0]
        finally:
            hook.remove()

    def feature(self) -> Tensor:
        """The unit feature of an image, [1, d] float32."""
        features = self.network(_probe_image(self.image_size))
        return normalize((features[0] if isinstance(features, tuple) else features).float(), dim=-1)

    def feature_in(self, name: str, tokens: int) -> Tensor:
        """The same with the blocks in a runtime; afterwards they are as they were."""
        blocks = self.place.blocks
        try:
            self.place.put(self._replacement(name, [*blocks], tokens))
            return self.feature()
        finally:
            self.place.put(blocks)

    def first_block(self, name: str, tokens: int) -> Callable[[Tensor], Tensor]:
        """The first block in a runtime and in the dtype of the probe."""
        block = self.place.blocks[0]
        if name != "torch":
            return self._stack(name, [block], tokens)
        return block if self.dtype == torch.float32 else copy.deepcopy(block).to(self.dtype)


def _read_plain(holder: list[nn.Module]) -> PlainBlock:
    """Take apart the block of a list, which is emptied, so that the block can go."""
    block = read_block(holder.pop())
    assert block is not None  # every block of a place is plain
    return block


def _width(block: nn.Module) -> int:
    plain = read_block(block)
    assert plain is not None
    return len(plain.norms[0][0])


def _decide(probe: _Probe, runtime: str) -> str:
    """The choice as JSON: for ``auto`` the fastest sound runtime, which in float32 must agree with torch."""
    reference, tokens = probe.observe()
    count = tokens.shape[1]
    times, problems = _time(probe, tokens.to(probe.dtype)) if runtime == "auto" else ({runtime: 0.0}, [])
    for name in _by_preference(times):
        if name == "torch":
            break
        try:
            feature = probe.feature_in(name, count)
        except _FAILURES as error:
            problems.append(_problem(name, error))
            continue
        difference = float((feature - reference).abs().max())
        agrees = difference <= AGREEMENT
        if not float(cosine_similarity(feature, reference).min()) > _SOUND:
            problems.append(f"{name} gives other features than torch here")
        elif agrees or runtime != "auto" or probe.dtype != torch.float32:
            shares = agrees and probe.dtype == torch.float32
            return _record(RuntimeChoice(name, shares, difference, times, count, "; ".join(problems)))
    return _record(RuntimeChoice("torch", times=times, tokens=count, problem="; ".join(problems)))


def _by_preference(times: Mapping[str, float]) -> list[str]:
    """Names by time; one precedes an earlier one only if that is worth while, since times of a busy machine scatter."""
    order: list[str] = []
    for name in times:
        slower = [other for other in order if times[name] < times[other] * _WORTHWHILE]
        order.insert(order.index(slower[0]) if slower else len(order), name)
    return order


def _record(choice: RuntimeChoice) -> str:
    return json.dumps(asdict(choice))


# whatever a package does when a machine lacks what it needs
_FAILURES = (RuntimeError, AttributeError, NotImplementedError, ImportError, TypeError)


def _problem(name: str, error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Exception from")]
    return f"{name} cannot run this model here ({printable(lines[0] if lines else repr(error), 200)})"


def _time(probe: _Probe, tokens: Tensor) -> tuple[dict[str, float], list[str]]:
    """Time the first block in each runtime that is here.

    Args:
        probe: the network.
        tokens: of one image, [1, T, w] in the dtype of the probe.

    Returns:
        The seconds, each thread having a batch, the least of some rounds; and why a runtime cannot run.
    """
    blocks: dict[str, Callable[[Tensor], Tensor]] = {}
    first: dict[str, float] = {}
    problems: list[str] = []
    for name in RUNTIMES[1:]:
        if name == "openvino" and not is_installed("openvino"):
            continue
        try:
            blocks[name] = probe.first_block(name, tokens.shape[1])
            first[name] = min(_seconds(partial(blocks[name], tokens)) for _ in range(2))
        except _FAILURES as error:
            problems.append(_problem(name, error))
    hopeful = [name for name in first if first[name] <= _HOPELESS * min(first.values())]
    batches = [tokens.repeat(_BATCH, 1, 1) for _ in range(_threads())]
    least = dict.fromkeys(hopeful, float("inf"))
    spent = dict.fromkeys(hopeful, 0.0)
    for _ in range(_ROUNDS):
        for name in hopeful:
            if spent[name] < _SECONDS:
                seconds = _seconds(partial(_run_in_threads, blocks[name], batches))
                least[name], spent[name] = min(least[name], seconds), spent[name] + seconds
    return least, problems


def _run_in_threads(block: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> None:
    for _ in in_threads(block, batches):
        pass


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _probe_image(size: tuple[int, int]) -> Tensor:
    """Pixels [1, 3, height, width] of the range of a preprocessed photo: smooth shapes under a little noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, 7, 7, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
    return smooth + 0.1 * torch.randn(1, 3, *size, generator=generator)
