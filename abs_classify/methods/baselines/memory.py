"""Features that a stream method remembers: up to a number for each class, each with the entropy of its prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Memory", "entropy_of"]


class Memory:
    """Features by class, in one growing table.

    Args:
        capacity: entries a class.
        like: a tensor [d] whose dtype and device the table takes.
    """

    def __init__(self, capacity: int, like: Tensor) -> None:
        self.capacity = capacity
        self.count = 0
        self._features = like.new_empty(8, len(like))
        self._class_index = like.new_zeros(8).long()
        self._entropies: list[float] = []
        self._slots: dict[int, list[int]] = {}

    @property
    def features(self) -> Tensor:
        """[count, d], in the order of their slots."""
        return self._features[: self.count]

    @property
    def class_index(self) -> Tensor:
        """int64 [count]: the class of each."""
        return self._class_index[: self.count]

    def entropy(self, slot: int) -> float:
        """The entropy that was stored with a slot."""
        return self._entropies[slot]

    def slots(self, position: int) -> list[int]:
        """The slots of one class by rising entropy; of equal ones the older first."""
        return sorted(self._slots.get(position, []), key=self._entropies.__getitem__)

    def full(self, position: int) -> bool:
        """Whether a class has all the entries that it can have."""
        return len(self._slots.get(position, [])) >= self.capacity

    def put(self, position: int, feature: Tensor, entropy: float) -> int:
        """Store a feature [d]; in a full class it takes the place of the one with the highest entropy.

        Returns:
            The slot: ``count - 1`` if it is new.
        """
        if self.full(position):
            slot = self.slots(position)[-1]
            self._entropies[slot] = entropy
        else:
            slot = self._grow(position, entropy)
        self._features[slot] = feature
        return slot

    def offer(self, position: int, feature: Tensor, entropy: float) -> int | None:
        """``put`` unless the class is full of entries that are at least as certain; then None."""
        if self.full(position) and not entropy < self._entropies[self.slots(position)[-1]]:
            return None
        return self.put(position, feature, entropy)

    def _grow(self, position: int, entropy: float) -> int:
        if self.count == len(self._features):
            # doubling keeps the cost of copying below that of storing
            self._features = self._features.repeat(2, 1)
            self._class_index = self._class_index.repeat(2)
        slot = self.count
        self.count += 1
        self._class_index[slot] = position
        self._entropies.append(entropy)
        self._slots.setdefault(position, []).append(slot)
        return slot


def entropy_of(probability: Tensor, floor: float) -> float:
    """-sum p log(p + floor) in nats; with a floor of 0 the exact entropy."""
    import torch

    if floor == 0:
        return float(torch.special.entr(probability).sum())
    return -float((probability * torch.log(probability + floor)).sum())
