"""What a bundle is made of: its limits and its records. Pure; docs/bundle-format.md is normative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Description", "Kind", "Provenance", "Rejection"]


Kind = Literal["sentence", "phrase"]


KINDS: frozenset[str] = frozenset(("sentence", "phrase"))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a description comes from: a generator of the header, its prompt, and which sample of that prompt."""

    generator: str
    sample: int = 0
    prompt: str | None = None
    request: str | None = None
    """The digest of the request that was answered, where there was one."""
    accepted_by: str | None = None
    """The generator, a reviewer, that accepted the text as it stands."""
    edited_by: str | None = None
    """The generator, a reviewer, that last changed the text; ``generator`` and the rest still say where it began."""


@dataclass(frozen=True, slots=True)
class Description:
    """One description of one class.

    A ``sentence`` stands alone ("A bird with a red crest."); a ``phrase`` is a CLIP-D descriptor ("a red crest").
    """

    class_id: str
    text: str
    provenance: Provenance
    kind: Kind = "sentence"
    scores: Mapping[str, float] | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """One completion that was not accepted, with a short reason ("cut-off") and, optionally, what was seen."""

    class_id: str
    text: str
    reason: str
    provenance: Provenance
    detail: str | None = None
    rejected_by: str | None = None
    """The generator, a reviewer, that rejected it; None: a rule did."""
