"""What the tests that run vLLM share: how its commands are told to run here."""

from __future__ import annotations

#: The key of the server under test.
KEY = "sk-the-right-key-of-this-server"
#: No hub, no report of usage, little memory.
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
#: What vLLM's own commands are told; float32 runs on every processor.
MODEL_OPTIONS = ("--dtype", "float32", "--max-model-len", "1024", "--enforce-eager")
