"""Data sets: a spec such as ``imagefolder:./val`` or ``dtd:./dtd`` in, labelled images out.

``open_dataset`` opens one, ``check_dataset`` says what is missing of one, ``KINDS`` lists the kinds. The public names
are imported when they are first used, so that a module of this package can be imported without the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abs_classify.datasets.base import ByteSource, Dataset, Sample
    from abs_classify.datasets.benchmarks.base import Benchmark
    from abs_classify.datasets.benchmarks.catalogue import BENCHMARKS
    from abs_classify.datasets.benchmarks.diagnosis import DatasetReport
    from abs_classify.datasets.registry import KINDS, DatasetKind, available_datasets, check_dataset, open_dataset

__all__ = [
    "BENCHMARKS",
    "KINDS",
    "Benchmark",
    "ByteSource",
    "Dataset",
    "DatasetKind",
    "DatasetReport",
    "Sample",
    "available_datasets",
    "check_dataset",
    "open_dataset",
]

_MODULES = {
    "BENCHMARKS": "benchmarks.catalogue",
    "KINDS": "registry",
    "Benchmark": "benchmarks.base",
    "ByteSource": "base",
    "Dataset": "base",
    "DatasetKind": "registry",
    "DatasetReport": "benchmarks.diagnosis",
    "Sample": "base",
    "available_datasets": "registry",
    "check_dataset": "registry",
    "open_dataset": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
