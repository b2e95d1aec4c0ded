"""Views of images in rounds, until the decisions on each image want no more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abs_classify.methods.adaptive import LOOK

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from abs_classify.encoding.adaptive_views import ImageViews, ViewDecisions
    from abs_classify.encoding.encoder import EncodedImage
    from abs_classify.methods.views import ViewSource

__all__ = ["RoundImage", "finish_rounds", "pooled_rounds"]


@dataclass(eq=False)
class RoundImage:
    """An image whose views come in rounds.

    Args:
        pixels: of the image.
        boxes: where the views lie of each source of which some are missing.
        tokens: of the image, [1, P + g*g, w], if feature windows come in rounds as well.
        views: the features so far, for decisions.
        encoded: what was computed so far.
    """

    pixels: Image.Image
    boxes: Mapping[ViewSource, np.ndarray]
    tokens: Tensor | None
    views: ImageViews
    encoded: EncodedImage

    def missing(self, decisions: ViewDecisions) -> dict[ViewSource, tuple[int, int]]:
        """For each source of which the decisions want more views, the first of these and the end."""
        wanted = decisions.wanted(self.views)
        return {view: (first, stop) for view, stop in wanted.items() if (first := self.views.count(view)) < stop}

    def add(self, view: ViewSource, rows: Tensor) -> None:
        """Append the next unit features [n, d] of a source."""
        self.views.add(view, rows)
        features = {**self.encoded.features, view: torch.cat([self.encoded.features[view], rows])}
        self.encoded = replace(self.encoded, features=features)


def finish_rounds(
    images: Sequence[RoundImage], decisions: ViewDecisions, begin: Callable[[Sequence[RoundImage]], Callable[[], None]]
) -> list[EncodedImage]:
    """Round after round of some images, to the last decision.

    Args:
        images: begun.
        decisions: on them.
        begin: begins one round of images of which views are missing; its result waits for them.
    """
    while unsettled := [image for image in images if image.missing(decisions)]:
        begin(unsettled)()
    return [image.encoded for image in images]


def pooled_rounds(
    groups: Iterator[list[RoundImage]],
    decisions: ViewDecisions,
    begin: Callable[[Sequence[RoundImage]], Callable[[], None]],
    batch_size: int,
) -> Iterator[list[EncodedImage]]:
    """Rounds of many images on a device that works on its own: settled ones leave their places to the next.

    Two rounds are under way: one is prepared while the device works on the other.

    Args:
        groups: images, begun as they are taken.
        decisions: on them.
        begin: as in ``finish_rounds``.
        batch_size: views that are encoded together.

    Yields:
        Finished images, in order.
    """
    most = max(1, batch_size // LOOK)
    order: deque[RoundImage] = deque()
    unsettled: deque[RoundImage] = deque()
    working: list[RoundImage] = []
    wait: Callable[[], None] | None = None
    while True:
        while len(unsettled) < most and (group := next(groups, None)) is not None:
            order.extend(group)
            unsettled.extend(image for image in group if image.missing(decisions))
        begun = [unsettled.popleft() for _ in range(min(most, len(unsettled)))]
        next_wait = begin(begun) if begun else None
        if wait is not None:
            wait()
        # those that were begun first go on first, so that few images wait for one
        unsettled.extendleft(image for image in reversed(working) if image.missing(decisions))
        working, wait = begun, next_wait
        busy = {id(image) for image in chain(unsettled, working)}
        finished = []
        while order and id(order[0]) not in busy:
            finished.append(order.popleft().encoded)
        if finished:
            yield finished
        if wait is None and not unsettled:
            return
