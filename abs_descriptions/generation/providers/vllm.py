"""A language model in this process through vLLM's ``LLM.chat``: for a GPU, or for many requests on a large CPU.

vLLM runs the model in processes that it starts by *spawn*, which import the main script again. So a script must do its
work under ``if __name__ == "__main__":``, as the command line does.

Nothing is downloaded and no usage is reported. Starting takes half a minute; a provider starts once for all its calls.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from abs_core.errors import FatalProviderError, UsageError
from abs_core.extras import require
from abs_core.text import printable
from abs_descriptions.generation.providers.base import Adaptation, Failure, Outcome, Reply, Request
from abs_descriptions.generation.providers.model_files import EMBEDDED, ModelFiles, unpack_gguf
from abs_descriptions.generation.providers.response_validation import LIST_SCHEMA
from abs_descriptions.generation.providers.transformers_local import DTYPES, DType, choose_dtype

__all__ = ["VLLMProvider"]

# Requests in one call of ``LLM.chat``, which returns when all are done: what an interrupt can lose. vLLM itself decides
# how many of them run at once. A GPU needs many, to be busy while the last ones of a call end.
_CPU_BATCH, _GPU_BATCH = 32, 1024

# On a CPU vLLM would take nine tenths of the memory, or fail if that is not free.
_CPU_CACHE_BYTES = 2 * 2**30

# Read by vLLM at its start only. Standard output is for results; errors still go to standard error.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_STREAM": "ext://sys.stderr"}

# Unless the user has set them.
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
_GUARD = "in a script of your own, do the work under: if __name__ == '__main__':"


class VLLMProvider:
    """A causal language model with a chat template, loaded on first use.

    Args:
        model: see ``ModelFiles``.
        batch_size: requests in one call of vLLM; None is 32 on a CPU and 1024 elsewhere.
        dtype: "auto" is bfloat16 or float16 if the device computes in it, else float32.
        keep: a folder where a GGUF file is unpacked once, because vLLM needs a folder; None unpacks it into a temporary
            one.
        engine: "ray" has vLLM spread the model over the GPUs of a Ray cluster; "local" over those of this machine.
        gpus: of how many GPUs each layer is split over, vLLM's ``tensor_parallel_size``; None is one.

    Raises:
        WeightsError: the embedded model is missing or is not the published file.
        FatalProviderError: no such model.
        UsageError: a batch size or a number of GPUs below 1, an unknown dtype or engine.
    """

    name = "vllm"
    adaptation = Adaptation()

    def __init__(
        self,
        model: str = EMBEDDED,
        *,
        batch_size: int | None = None,
        dtype: DType = "auto",
        keep: Path | None = None,
        engine: str = "local",
        gpus: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"the batch size must be at least 1, got {batch_size}", remedy="Give a larger number")
        if dtype not in DTYPES:
            raise UsageError(f"unknown dtype {dtype!r}", remedy=f"Use one of {', '.join(DTYPES)}")
        if engine not in ("local", "ray"):
            raise UsageError(f"unknown engine {engine!r}", remedy="Use local or ray")
        if gpus is not None and gpus < 1:
            raise UsageError(f"the number of GPUs must be at least 1, got {gpus}", remedy="Give a larger number")
        self._engine, self._gpus = engine, gpus
        self._files = ModelFiles(model)
        self.model = self._files.name
        self._batch_size = batch_size
        self._dtype: DType = dtype
        self.keep = keep

    def key(self) -> Mapping[str, Any]:
        """Provider, digest of the weights, and dtype as requested.

        The versions of vLLM and torch and the machine are not part of it: they determine which text a seed gives, but
        not how likely a text is.
        """
        return {"backend": self.name, "weights": self._files.weights, "dtype": self._dtype}

    def complete(self, requests: Iterable[Request]) -> Iterator[tuple[Request, Outcome]]:
        """See ``base.Provider``; outcomes are yielded batch by batch.

        Raises:
            MissingExtraError: the extra "vllm" is not installed, or "local" for a GGUF file.
            FatalProviderError: vLLM cannot load the model or crashed, or the model has no chat template.
            StorageError: the folder ``keep`` cannot be written.
        """
        source = iter(requests)
        size = self._batch_size or (_CPU_BATCH if _on_cpu() else _GPU_BATCH)
        while batch := list(islice(source, size)):
            yield from zip(batch, self._answer(batch), strict=True)

    def _answer(self, batch: Sequence[Request]) -> list[Outcome]:
        """The outcomes of a batch. vLLM refuses a whole batch for one bad request, which is found by bisection."""
        llm = self._llm
        try:
            outputs = llm.chat(
                [[{"role": turn.role, "content": turn.content} for turn in request.messages] for request in batch],
                [_sampling(request) for request in batch],
                use_tqdm=False,
            )
        except (ValueError, require("vllm.exceptions").VLLMClientError) as error:
            if len(batch) == 1:
                return [Failure(f"vLLM refuses the request: {printable(str(error), 160)}")]
            half = len(batch) // 2
            return self._answer(batch[:half]) + self._answer(batch[half:])
        except Exception as error:
            self.close()
            raise FatalProviderError(
                f"vLLM failed: {type(error).__name__}: {printable(str(error), 200)}",
                remedy="Look at its messages above; the same command resumes",
            ) from error
        except BaseException:
            # An interrupted call leaves requests behind, whose replies the next call would return as its own.
            self.close()
            raise
        return [_outcome(output) for output in outputs]

    def close(self) -> None:
        """End vLLM's processes; the next request starts them again. They also end with this process."""
        llm = self.__dict__.pop("_llm", None)
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    @cached_property
    def _llm(self) -> Any:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise FatalProviderError(
                "this script starts vLLM while it is imported", remedy=f"{_GUARD[:1].upper()}{_GUARD[1:]}"
            )
        with _quiet_start():
            folder = self._folder()
            vllm = require("vllm")
            try:
                llm = vllm.LLM(str(folder), **self._arguments())
            except Exception as error:
                raise FatalProviderError(
                    f"vLLM cannot load the model {self.model!r}: {printable(str(error), 300)}",
                    remedy=f"Look at its messages above; {_GUARD}",
                ) from error
        if getattr(llm.get_tokenizer(), "chat_template", "") is None:
            raise FatalProviderError(
                f"the model {self.model!r} has no chat template",
                remedy="Use an instruction-tuned model",
            )
        return llm

    def _arguments(self) -> dict[str, Any]:
        common = {
            "dtype": self._dtype,
            "max_model_len": -1,  # what the model reads, or less if the memory is too small for one such request
            "load_format": "safetensors",
            "use_tqdm_on_load": False,
        }
        if self._gpus is not None:
            common["tensor_parallel_size"] = self._gpus
        if self._engine == "ray":
            common["distributed_executor_backend"] = "ray"
        if not _on_cpu():
            return common
        torch = require("torch")
        dtype = choose_dtype(torch, torch.device("cpu")) if self._dtype == "auto" else getattr(torch, self._dtype)
        # Compilation would need a C++ compiler.
        return {**common, "dtype": dtype, "enforce_eager": True, "kv_cache_memory_bytes": _CPU_CACHE_BYTES}

    def _folder(self) -> Path:
        if not self._files.is_gguf:
            return self._files.path
        return unpack_gguf(self._files.path, self._files.weights, self.keep or Path(self._scratch.name))

    @cached_property
    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="abs-vllm-")


def _on_cpu() -> bool:
    with _quiet_start():
        return bool(require("vllm.platforms").current_platform.is_cpu())


def _sampling(request: Request) -> Any:
    vllm, parameters = require("vllm"), request.parameters
    structure = None
    if request.answer == "list":
        structure = require("vllm.sampling_params").StructuredOutputsParams(json=LIST_SCHEMA)
    return vllm.SamplingParams(
        max_tokens=parameters.max_tokens,
        temperature=1.0 if parameters.temperature is None else parameters.temperature,
        top_p=1.0 if parameters.top_p is None else parameters.top_p,
        seed=request.draw_seed,
        structured_outputs=structure,
    )


def _outcome(output: Any) -> Outcome:
    (completion,) = output.outputs
    text, finish = completion.text.strip(), completion.finish_reason
    if finish not in ("stop", "length"):
        return Failure(f"the reply ended with {printable(str(finish), 40)!r}")
    if not text:
        return Failure("an empty reply")
    return Reply(text, finish, len(output.prompt_token_ids or ()), len(completion.token_ids))


@contextmanager
def _quiet_start() -> Iterator[None]:
    """What is imported and started in this block logs little, contacts no hub, and gets no Ctrl-C.

    A terminal sends Ctrl-C to every process in the foreground; vLLM's would end before the requests in flight are
    answered. A blocked signal stays blocked in a process that is started meanwhile.
    """
    # The resource tracker unblocks the signal when it starts.
    resource_tracker.ensure_running()
    settings = {**{name: value for name, value in _QUIET.items() if name not in os.environ}, **_OFFLINE}
    before = {name: os.environ.get(name) for name in settings}
    main = threading.current_thread() is threading.main_thread()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if main else None
    os.environ.update(settings)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
