"""What every loader chooses."""

from __future__ import annotations

import torch

from abs_classify.models.base import emulates


def test_a_processor_without_a_unit_emulates() -> None:
    cpu = torch.device("cpu")
    units = torch.cpu.get_capabilities()
    assert not emulates(cpu, torch.float32)
    assert emulates(cpu, torch.bfloat16) != (units["avx512_bf16"] or units["amx_bf16"])
    assert emulates(cpu, torch.float16) != (units["avx512_fp16"] or units["amx_fp16"])
