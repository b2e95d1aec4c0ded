"""A language model in this process, through ``transformers``: the embedded SmolLM2, a GGUF file, a Hugging Face folder.

Nothing is downloaded. On a CPU a small model runs several batches at once with one thread each, because threads that
share a small matrix product wait for each other longer than they compute, and much longer on a busy machine.

``generate`` reads every prompt in full, runs a batch until its longest row ends and has one seed for all rows. Here

    - the tokens that all prompts begin with are read once: prompts with the same examples differ in their last words;
    - ``generate`` is called for a few tokens at a time, and rows that have ended leave the batch in between;
    - row r is sampled from its own seed, so its text does not depend on the other rows but for the rounding of sums.

A token is sampled from the nucleus (Holtzman et al. 2020) among the 128 likeliest by inverting the cumulative
distribution at a uniform random number. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from abs_core.errors import FatalProviderError, ProviderError, UsageError
from abs_core.extras import require
from abs_descriptions.generation.providers.base import Adaptation, Failure, Outcome, Reply, Request
from abs_descriptions.generation.providers.model_files import EMBEDDED, ModelFiles, load_gguf, unpack_gguf

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "DType", "Row", "SampledTokens", "TransformersProvider", "choose_dtype", "sample_batch"]

_LIKELIEST = 128

# Rows that have ended are computed until the call returns, and each call copies the cache. Of 4, 8, 16 and no limit,
# 4 was the fastest: 17.2, 18.2, 20.0 and 31.1 processor seconds for 128 rows of SmolLM2-135M.
_TOKENS_A_CALL = 4


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of a batch and how to continue it.

    Args:
        prompt: token ids, at least one.
        max_tokens: at least 1.
        temperature: 0 takes the likeliest token each time.
        top_p: share of the probability to sample from, in (0, 1].
        seed: None takes a random one.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Token ids without the stop token, and whether the model ended the row itself."""

    tokens: tuple[int, ...]
    stopped: bool


def sample_batch(
    model: Any, rows: Sequence[Row], stop_ids: frozenset[int], cancelled: Callable[[], bool] = lambda: False
) -> list[SampledTokens]:
    """Continue every row; rows that are unfinished when ``cancelled`` says so are returned as they are.

    Args:
        model: a ``transformers`` causal language model in evaluation mode, whose generation settings change no logits.
        rows: at least one.
        stop_ids: the tokens that end a row, at least one.
        cancelled: asked every few tokens.
    """
    import torch

    results = [SampledTokens((), False)] * len(rows)
    with torch.inference_mode():
        sequences, mask, cache = _read_shared_prefix(model, [row.prompt for row in rows], pad_id=min(stop_ids))
        width = sequences.shape[1]
        sampler = _RowSampler(rows, width, model.device)
        running = list(range(len(rows)))
        while running and not cancelled():
            sequences = model.generate(
                sequences,
                attention_mask=mask,
                logits_processor=[sampler],
                do_sample=False,
                max_new_tokens=min(_TOKENS_A_CALL, sampler.steps - (sequences.shape[1] - width)),
                eos_token_id=sorted(stop_ids),
                pad_token_id=min(stop_ids),
                **cache,
            )
            kept = []
            for place, tokens in enumerate(sequences[:, width:].tolist()):
                row = rows[running[place]]
                result = results[running[place]] = _cut(tokens[: row.max_tokens], stop_ids)
                if not result.stopped and len(result.tokens) < row.max_tokens:
                    kept.append(place)
            running = [running[place] for place in kept]
            index = torch.tensor(kept, dtype=torch.long, device=model.device)
            sequences = sequences[index]
            mask = torch.cat([mask[index], mask.new_ones(len(kept), sequences.shape[1] - mask.shape[1])], dim=1)
            sampler.select(index)
            for layers in cache.values():
                layers.batch_select_indices(index)
    return results


def _cut(tokens: list[int], stop_ids: frozenset[int]) -> SampledTokens:
    end = next((place for place, token in enumerate(tokens) if token in stop_ids), None)
    return SampledTokens(tuple(tokens[:end]), end is not None)


def _read_shared_prefix(
    model: Any, prompts: Sequence[tuple[int, ...]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Prompts [B,T] with their mask [B,T] and the cache of what all begin with, under the name the model has for it."""
    import torch
    from transformers import DynamicCache

    first, last = min(prompts), max(prompts)
    # Each row keeps at least one token to read.
    longest = min(map(len, prompts)) - 1
    shared = next((place for place in range(longest) if first[place] != last[place]), longest)
    # transformers renamed the argument in 5.24.
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    cache = DynamicCache(config=model.config)
    if shared:
        model(input_ids=torch.tensor([first[:shared]], device=model.device), use_cache=True, **{name: cache})
        cache.batch_repeat_interleave(len(prompts))
    pads = [max(map(len, prompts)) - len(prompt) for prompt in prompts]
    # Padded behind the shared prefix: the hole is masked and takes no position.
    ids = [prompt[:shared] + (pad_id,) * pad + prompt[shared:] for prompt, pad in zip(prompts, pads, strict=True)]
    mask = [[1] * shared + [0] * pad + [1] * (len(prompt) - shared) for prompt, pad in zip(prompts, pads, strict=True)]
    return torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device), {name: cache}


class _RowSampler:
    """A logits processor that makes one token a row certain, sampled with the row's parameters and random numbers."""

    def __init__(self, rows: Sequence[Row], width: int, device: Any) -> None:
        """``width``: tokens of a prompt with its padding."""
        import torch

        self.steps = max(row.max_tokens for row in rows)
        self._width = width
        self._temperature = torch.tensor([[row.temperature] for row in rows], device=device)
        self._top_p = torch.tensor([[row.top_p] for row in rows], device=device)
        self._uniforms = torch.stack([_random_numbers(row, self.steps) for row in rows]).to(device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``scores`` [B,V], changed in place, after ``input_ids`` [B,T]."""
        step = input_ids.shape[1] - self._width
        tokens = _sample(scores, self._temperature, self._top_p, self._uniforms[:, step : step + 1])
        return scores.scatter_(1, tokens[:, None], math.inf)

    def select(self, index: torch.Tensor) -> None:
        """Keep these rows only."""
        self._temperature, self._top_p = self._temperature[index], self._top_p[index]
        self._uniforms = self._uniforms[index]


def _random_numbers(row: Row, count: int) -> torch.Tensor:
    """Numbers in [0,1) as float32 [count] from the row's seed; zeros, the likeliest, at temperature 0."""
    import torch

    if row.temperature == 0:
        return torch.zeros(count)
    seed = row.seed if row.seed is not None else random.SystemRandom().getrandbits(31)
    return torch.rand(count, generator=torch.Generator().manual_seed(seed))


def _sample(logits: torch.Tensor, temperature: Any, top_p: Any, uniforms: Any) -> torch.Tensor:
    """Token ids [B] from logits [B,V] at uniforms [B,1]; the nucleus is the smallest set that holds ``top_p``."""
    scaled = logits / temperature.clamp(min=1e-4)
    likeliest, ids = scaled.topk(min(_LIKELIEST, scaled.shape[-1]))
    probability = (likeliest - scaled.logsumexp(-1, keepdim=True)).exp()
    before = probability.cumsum(-1) - probability
    inside = before < top_p
    reach = (probability * inside).cumsum(-1)
    chosen = (reach <= uniforms * reach[:, -1:]).sum(-1, keepdim=True)
    token: torch.Tensor = ids.gather(1, chosen.minimum(inside.sum(-1, keepdim=True) - 1))[:, 0]
    return token


DType = Literal["auto", "float32", "bfloat16", "float16"]

DTYPES: tuple[DType, ...] = ("auto", "float32", "bfloat16", "float16")

# Requests are sorted and cut into batches window by window, so that memory does not grow with their number.
_WINDOW = 4096

_SMALL_MODEL = 1_500_000_000


class TransformersProvider:
    """A causal language model with a chat template, loaded on first use.

    Args:
        model: see ``ModelFiles``.
        batch_size: rows sampled together.
        threads: CPU threads; None leaves it to torch.
        dtype: "auto" is bfloat16 or float16 if the device computes in it, else float32.
        keep: a folder where a GGUF file is unpacked once, so that later runs load it in seconds; None unpacks nothing.

    Raises:
        WeightsError: the embedded model is missing or is not the published file.
        FatalProviderError: no model at this path.
        UsageError: a batch size or number of threads below 1, or an unknown dtype.
    """

    name = "local"
    adaptation = Adaptation()

    def __init__(
        self,
        model: str = EMBEDDED,
        *,
        batch_size: int = 64,
        threads: int | None = None,
        dtype: DType = "auto",
        keep: Path | None = None,
    ) -> None:
        if batch_size < 1 or (threads is not None and threads < 1):
            raise UsageError(
                f"the batch size and the number of threads must be at least 1, got {batch_size} and {threads}",
                remedy="Give larger numbers",
            )
        if dtype not in DTYPES:
            raise UsageError(f"unknown dtype {dtype!r}", remedy=f"Use one of {', '.join(DTYPES)}")
        self._files = ModelFiles(model)
        self.model = self._files.name
        self._batch_size = batch_size
        self._threads = threads
        self._dtype: DType = dtype
        self.keep = keep

    def key(self) -> Mapping[str, Any]:
        """Provider, digest of the weights, dtype as requested, and the version of the sampler."""
        return {"backend": self.name, "weights": self._files.weights, "dtype": self._dtype, "sampler": 1}

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """See ``base.Provider``; outcomes are yielded batch by batch.

        Raises:
            MissingExtraError: the extra "local" is not installed.
            FatalProviderError: the model cannot be read, or has no chat template.
            ProviderError: the device is out of memory.
        """
        source = iter(requests)
        while window := list(islice(source, _WINDOW)):
            yield from self._complete_window(window)

    def _complete_window(self, window: Sequence[Request]) -> Iterator[tuple[Request, Outcome]]:
        fitting: list[tuple[Row, Request]] = []
        for request in window:
            row = self._row(request)
            if len(row.prompt) + row.max_tokens > self._context_length:
                yield (
                    request,
                    Failure(f"the prompt has {len(row.prompt)} tokens, the model reads up to {self._context_length}"),
                )
            else:
                fitting.append((row, request))
        # Sorted, so that the prompts of a batch share a long prefix; stable, so that a resumed run forms equal batches.
        fitting.sort(key=lambda pair: pair[0].prompt)
        batches = [fitting[start : start + self._batch_size] for start in range(0, len(fitting), self._batch_size)]
        for batch, results in self._sample_all(batches):
            for (row, request), sampled in zip(batch, results, strict=True):
                yield request, self._outcome(row, sampled)

    def _sample_all(
        self, batches: Sequence[list[tuple[Row, Request]]]
    ) -> Iterator[tuple[list[tuple[Row, Request]], list[SampledTokens]]]:
        """Batches with their sampled tokens, in order; several at once on a CPU with a small model."""
        stop = threading.Event()
        with self._worker_threads() as workers, ThreadPoolExecutor(workers, "sample") as pool:
            try:
                futures: list[Future[list[SampledTokens]]] = [
                    pool.submit(self._sample, [row for row, _ in batch], stop) for batch in batches
                ]
                for batch, future in zip(batches, futures, strict=True):
                    yield batch, future.result()
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)

    def _sample(self, rows: Sequence[Row], stop: threading.Event) -> list[SampledTokens]:
        torch = require("torch", extra="local")
        try:
            return sample_batch(self._loaded[0], rows, self.stop_ids, stop.is_set)
        except torch.OutOfMemoryError as error:
            raise ProviderError(
                f"the device has too little memory for {len(rows)} rows of {self.model!r}", remedy="Use smaller batches"
            ) from error

    def _row(self, request: Request) -> Row:
        turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        text = self._loaded[1].apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = self._loaded[1](text, add_special_tokens=False)["input_ids"]
        given = request.parameters
        return Row(
            prompt=tuple(ids),
            max_tokens=given.max_tokens,
            temperature=1.0 if given.temperature is None else given.temperature,
            top_p=1.0 if given.top_p is None else given.top_p,
            seed=request.draw_seed,
        )

    def _outcome(self, row: Row, sampled: SampledTokens) -> Outcome:
        text = self._loaded[1].decode(sampled.tokens, skip_special_tokens=True).strip()
        if not text:
            return Failure("an empty reply")
        finish: Literal["stop", "length"] = "stop" if sampled.stopped else "length"
        return Reply(text, finish, prompt_tokens=len(row.prompt), completion_tokens=len(sampled.tokens))

    def load(self) -> tuple[Any, Any]:
        """The model in evaluation mode and its tokenizer; loaded once.

        Raises:
            MissingExtraError, FatalProviderError: see ``complete``.
            StorageError: the folder ``keep`` cannot be written.
        """
        return self._loaded

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        transformers, torch = require("transformers"), require("torch", extra="local")
        transformers.utils.logging.disable_progress_bar()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = choose_dtype(torch, device) if self._dtype == "auto" else getattr(torch, self._dtype)
        path = self._files.path
        if self._files.is_gguf and self.keep is not None:
            path = unpack_gguf(path, self._files.weights, self.keep)
        model, tokenizer = load_gguf(path, dtype) if path.is_file() else _load_folder(path, dtype)
        if tokenizer.chat_template is None:
            raise FatalProviderError(
                f"the model {self.model!r} has no chat template",
                remedy="Use an instruction-tuned model",
            )
        # Other settings in a model's folder, such as a repetition penalty, would change the logits.
        model.generation_config = transformers.GenerationConfig(eos_token_id=model.generation_config.eos_token_id)
        return model.to(device).eval(), tokenizer

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end a reply."""
        model, tokenizer = self._loaded
        configured = model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)

    @cached_property
    def _context_length(self) -> int:
        return int(getattr(self._loaded[0].config, "max_position_embeddings", None) or 2048)

    @contextmanager
    def _worker_threads(self) -> Iterator[int]:
        """The number of batches to sample at once; torch's number of threads is adapted to it, and restored."""
        torch = require("torch", extra="local")
        model = self._loaded[0]
        before = torch.get_num_threads()
        threads = self._threads or before
        small = sum(weight.nbytes for weight in model.parameters()) <= _SMALL_MODEL
        workers = threads if small and model.device.type == "cpu" else 1
        torch.set_num_threads(max(1, threads // workers))
        try:
            yield workers
        finally:
            torch.set_num_threads(before)


def _load_folder(path: Path, dtype: Any) -> tuple[Any, Any]:
    transformers = require("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(path), dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise FatalProviderError(
            f"the model in {str(path)!r} cannot be loaded: {str(error)[:200]}",
            remedy="Use a folder with config.json, a tokenizer and safetensors of a causal language model",
        ) from error
    return model, tokenizer


def choose_dtype(torch: Any, device: Any) -> Any:
    """bfloat16 or float16 if the device computes in it, else float32: emulation is ten times slower."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    native = any(present for name, present in capabilities.items() if name.endswith("bf16"))
    return torch.bfloat16 if native else torch.float32
