"""Where features are computed: in this process, or by workers on many machines that share the feature store."""

from __future__ import annotations

from abs_classify.engines.base import EncodingTask, Engine

__all__ = ["EncodingTask", "Engine"]
