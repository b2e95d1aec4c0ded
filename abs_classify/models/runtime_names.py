"""The names of runtimes, and what of a machine their choice depends on; imports no model library."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TypeAlias

from abs_core.canonical import digest
from abs_core.extras import installed_version

__all__ = ["RUNTIMES", "Remember", "bfloat16_units", "machine_key"]

#: Remembers a text that follows from a description and from files, as ``DigestCache.derived`` does.
Remember: TypeAlias = Callable[[str, Iterable[Path], Callable[[], str]], str]

#: Names a user may give.
RUNTIMES = ("auto", "torch", "onednn", "openvino")

# what limits the instructions that the libraries use
_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")
_PACKAGES = ("torch", "openvino")


def machine_key(runtime: str, dtype: str, *, threads: int | None) -> list[str]:
    """What the choice of a runtime, and what it computes, depend on besides the model.

    Args:
        runtime: as the user named it.
        dtype: of the weights.
        threads: None where the choice decides the features: those must not change with a number of threads.
    """
    versions = [f"{package} {installed_version(package)}" for package in _PACKAGES]
    limits = [f"{name}={os.environ.get(name, '')}" for name in _VARIABLES]
    return [runtime, dtype, _processor(), *versions, *limits, "" if threads is None else str(threads)]


def bfloat16_units() -> list[str]:
    """The instruction sets of the processor that compute in bfloat16, as Linux names them; elsewhere none is known."""
    flags = {flag for line in _processor_lines() if line.startswith(("flags", "Features")) for flag in line.split()}
    return [name for name in ("avx512_bf16", "amx_bf16", "bf16") if name in flags]


@cache
def _processor() -> str:
    """The digest of a description of the processor: model and instruction sets."""
    return digest([platform.machine(), platform.processor(), *_processor_lines()])


@cache
def _processor_lines() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0].splitlines()
    except OSError:
        lines = []
    kinds = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU ")
    return [line for line in lines if line.startswith(kinds)]
