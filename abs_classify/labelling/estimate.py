"""What a labelling run will take, measured on its first images: with its method, and with a cheaper one."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample
from abs_core.text import format_duration

if TYPE_CHECKING:
    from abs_classify.labelling.labeller import Labeller

__all__ = ["log_estimate"]

_logger = logging.getLogger(__name__)

# images that are measured
_MEASURED = 8

# seconds from which on a run is worth a word before it
_LONG = 60.0


def log_estimate(
    labeller: Labeller, entries: Sequence[IdentifiedSample | UnreadableSample], left: int, *, at_most: bool
) -> None:
    """Say how long a run will take, if it is more than a minute.

    Args:
        labeller: of the run.
        entries: its next images; some are looked at, and what is computed of them is kept.
        left: how many images the run has yet to look at.
        at_most: whether some of them may have their rows already.
    """
    images = [entry for entry in entries if isinstance(entry, IdentifiedSample)][:_MEASURED]
    probe = labeller.again()
    seconds = _seconds_per_image(probe, images)
    labeller.work.add_computed(probe.work)
    if seconds is None or seconds * left < _LONG:
        return
    about = "at most about" if at_most else "about"
    text = f"{about} {format_duration(seconds * left)} for {left:,} images with {labeller.method}"
    cheaper = labeller.cheaper()
    if cheaper is not None and (less := _seconds_per_image(cheaper, images)) is not None and less < seconds:
        text += f", about {format_duration(less * left)} with --method {cheaper.method}"
    _logger.info("%s; what is computed is kept, so a run that is stopped resumes", text)


def _seconds_per_image(labeller: Labeller, images: Sequence[IdentifiedSample]) -> float | None:
    """The time of an image that must be computed; None if all of these come from the cache."""
    if not images:
        return None
    labeller.prepare()
    before, start = labeller.work.images_computed, time.perf_counter()
    for _ in labeller.evidence([images], ahead=False):
        pass
    computed = labeller.work.images_computed - before
    return (time.perf_counter() - start) / computed if computed else None
