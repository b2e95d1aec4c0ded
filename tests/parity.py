"""How near the product came to stored numbers: tests state differences here, and the run ends with one table."""

from __future__ import annotations

__all__ = ["add", "rows", "table", "within"]

_WORST: dict[tuple[str, str], tuple[float, float]] = {}


def within(group: str, name: str, difference: float, tolerance: float) -> bool:
    """Whether a difference keeps to its tolerance; the worst of each name is remembered, and what does not is printed.

    Args:
        group: what the numbers belong to, a heading of the table.
        name: of the array or the model.
        difference: the largest one found, absolute unless the group says otherwise.
        tolerance: 0 for exact.
    """
    add([(group, name, difference, tolerance)])
    if not difference <= tolerance:
        print(f"{group}, {name}: {difference:.2e} is more than {tolerance:.0e}")
    return difference <= tolerance


def rows() -> list[tuple[str, str, float, float]]:
    """Group, name, worst difference and tolerance of everything that was compared in this process."""
    return [(group, name, worst, tolerance) for (group, name), (worst, tolerance) in _WORST.items()]


def add(differences: list[tuple[str, str, float, float]]) -> None:
    """Keep the worst difference of each group and name."""
    for group, name, difference, tolerance in differences:
        before = _WORST.get((group, name), (0.0, 0.0))[0]
        _WORST[group, name] = (max(before, difference), tolerance)


def table() -> list[str]:
    """The lines of the table; none where nothing was compared."""
    groups = list(dict.fromkeys(group for group, _ in _WORST))
    lines = []
    for wanted in groups:
        lines += ["", f"{wanted:<54} {'tolerance':>9} {'worst':>9}"]
        for (group, name), (worst, tolerance) in _WORST.items():
            if group == wanted:
                stated = f"{tolerance:.1e}" if tolerance else "exact"
                lines.append(f"  {name:<52} {stated:>9} {f'{worst:.1e}' if worst else '0':>9}")
    return lines
