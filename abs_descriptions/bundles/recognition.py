"""Which format a file from outside has, by its ending and by what its texts look like."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from abs_core.errors import UsageError
from abs_core.files import storage_errors
from abs_core.text import printable
from abs_descriptions.bundles.exchange import ExternalText, read_external

__all__ = ["looks_of", "recognized_format"]

_logger = logging.getLogger(__name__)

_FORMAT_BY_SUFFIX = {".json": "cupl", ".tsv": "text", ".txt": "text", ".csv": "csv"}
_CLEAR, _RARE = 0.8, 0.1

_SENTENCE_END = re.compile(r"[.!?…。！？।؟۔][\"'”’»)\]]*$")


def recognized_format(file: Path) -> tuple[str, list[ExternalText]]:
    """The format of a file, and its texts read in it. What was recognized by the texts is logged.

    Sentences and descriptors have one form in JSON, and are used in different ways: texts that are clearly descriptors
    are read as such, clear sentences as sentences, and what is neither is not guessed.

    Raises:
        UsageError: an ending or texts that leave the format open.
        BundleError: a broken file.
        StorageError: the file cannot be read.
    """
    chosen = _FORMAT_BY_SUFFIX.get(file.suffix.lower())
    if chosen is None:
        raise UsageError(f"the ending of {file.name!r} does not say its format", remedy="Give --format")
    if chosen == "cupl" and _holds_templates(file):
        _logger.info("read as clip-benchmark: class-specific templates of a data set")
        return "clip-benchmark", read_external(file, "clip-benchmark")
    texts = read_external(file, chosen)
    open_texts = [text for text in texts if text.text.strip() and not text.states_kind]
    sentences, phrases = looks_of(open_texts)
    total = len(open_texts)
    if not total:
        return chosen, texts
    shown = f"{phrases} of {total} texts look like phrases, {sentences} like sentences"
    if phrases >= _CLEAR * total and sentences <= _RARE * total:
        return _as_phrases(chosen, file, shown)
    if sentences < _CLEAR * total and chosen == "cupl":
        raise UsageError(
            f"{printable(file.name, 80)!r} could hold sentences or phrases: {shown}",
            remedy="Give --format cupl (sentences) or --format clip-d (phrases)",
        )
    return chosen, texts


def _as_phrases(chosen: str, file: Path, shown: str) -> tuple[str, list[ExternalText]]:
    if chosen == "cupl":
        _logger.info("read as clip-d: %s; --format cupl reads them as sentences", shown)
        return "clip-d", read_external(file, "clip-d")
    raise UsageError(
        f"{printable(file.name, 80)!r} holds phrases where {chosen} without a kind holds sentences: {shown}",
        remedy=f"Give --format {chosen} if they are sentences, or a CSV with the column kind",
    )


def looks_of(texts: Sequence[ExternalText]) -> tuple[int, int]:
    """How many texts look like sentences, and how many like phrases.

    A sentence has an end mark; a phrase has none and begins with a small letter or a number. Others may be either, as
    in scripts without capitals.
    """
    sentences = phrases = 0
    for text in texts:
        stripped = text.text.strip()
        if _SENTENCE_END.search(stripped[-8:]):
            sentences += 1
        elif stripped and (stripped[0].islower() or stripped[0].isdigit()):
            phrases += 1
    return sentences, phrases


# an object whose first value is an object too
_NESTED = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\{', re.DOTALL)


def _holds_templates(file: Path) -> bool:
    """Whether a JSON file has an object where descriptions have a list; the rest is checked when it is read."""
    with storage_errors(file, "read"):
        if not file.is_file():
            return False
        with file.open("rb") as stream:
            return _NESTED.match(stream.read(64 * 1024)) is not None
