"""The names of the published methods, controls and template sets, for whoever lists names alone: this module loads no
numbers library, and a shell that completes a name waits for it. The tests hold them to the tables.
"""

from __future__ import annotations

from abs_core.files import prompts_folder

__all__ = ["CONTROL_NAMES", "METHOD_NAMES", "template_set_names"]

#: Of ``METHODS`` of ``abs_classify.methods.table`` as it ships, in its order.
METHOD_NAMES = (
    "clip", "clip-e", "clip-d", "clip-d-wca", "waffle", "waffle-wca", "cupl", "wca",
    "abs", "abs-random", "abs-pixels", "abs-features", "abs-mean", "abs-hard", "abs-aligned", "abs-vote",
    "mta", "mta-crops", "zero", "zero-crops", "zero-e", "awt", "tda", "dmn", "onzeta",
)  # fmt: skip

#: Of ``CONTROLS`` of ``abs_classify.methods.controls``.
CONTROL_NAMES = ("shuffle", "swap", "waffle", "classname-only")


def template_set_names() -> tuple[str, ...]:
    """The ids of the shipped template sets, sorted."""
    return tuple(sorted(path.stem for path in (prompts_folder() / "clip").glob("*.yaml")))
