"""A language model in this process, through ``transformers``: the embedded SmolLM2, a GGUF file, a Hugging Face folder.

Nothing is downloaded. On a CPU a small model runs several batches at once with one thread each, because threads that
share a small matrix product wait for each other longer than they compute, and much longer on a busy machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from abs_core.errors import FatalProviderError, ProviderError, UsageError
from abs_core.extras import require
from abs_descriptions.generation.providers.base import Failure, Outcome, Reply, Request
from abs_descriptions.generation.providers.model_files import EMBEDDED, ModelFiles, load_gguf, unpack_gguf
from abs_descriptions.generation.providers.sampling import Row, SampledTokens, sample_batch

__all__ = ["DTYPES", "DType", "TransformersProvider", "choose_dtype"]


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
