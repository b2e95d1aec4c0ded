"""What cleaning makes of replies in the manner of large models: sentences lost, junk, and what is no description.

    python benchmarks/cleaning.py
    python benchmarks/cleaning.py --part "held out" --show

``cleaning_replies.jsonl`` has replies written for this purpose, each with the texts that a careful reader would keep.
Those of the part "held out" were not looked at while the rules were written, and those of "held out later" were written
by someone else once the rules were finished.

lost
    texts worth keeping that are in no accepted text, of all texts worth keeping
junk
    accepted texts that have more around a text worth keeping, such as a label or a footnote, of all accepted texts
no description
    accepted texts that have no text worth keeping in them, of all accepted texts
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abs_descriptions.generation.cleaning import CleaningRules, clean
from abs_descriptions.generation.naming import NameMatcher

REPLIES = Path(__file__).with_name("cleaning_replies.jsonl")
PARTS = ("tuning", "held out", "held out later")


@dataclass
class CleaningRates:
    """Counts over replies.

    Args:
        replies, worth_keeping, accepted: how many there are.
        lost, junk, no_description: the texts of each kind, with the class.
    """

    replies: int = 0
    worth_keeping: int = 0
    accepted: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)
    junk: list[tuple[str, str]] = field(default_factory=list)
    no_description: list[tuple[str, str]] = field(default_factory=list)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Lost, junk and no description, in [0, 1]."""
        accepted = max(1, self.accepted)
        return (
            len(self.lost) / max(1, self.worth_keeping),
            len(self.junk) / accepted,
            len(self.no_description) / accepted,
        )

    def __str__(self) -> str:
        lost, junk, none = self.shares
        return (
            f"{self.replies} replies, {self.worth_keeping} texts worth keeping, {self.accepted} accepted: "
            f"lost {lost:.1%}, junk {junk:.1%}, no description {none:.1%}"
        )


def read_replies(path: Path = REPLIES) -> Iterator[dict[str, Any]]:
    """The replies: class, kind, finish_reason, reply, keep, part."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def measure_cleaning(replies: Iterable[dict[str, Any]]) -> CleaningRates:
    """Clean every reply and compare what is accepted with what is worth keeping."""
    rates = CleaningRates()
    for reply in replies:
        cleaned = clean(
            reply["reply"],
            finish_reason=reply["finish_reason"],
            matcher=NameMatcher(reply["class"]),
            name=reply["class"],
            rules=CleaningRules(kind=reply.get("kind", "sentence")),
        )
        wanted = {_comparable(text): text for text in reply["keep"]}
        rates.replies += 1
        rates.worth_keeping += len(wanted)
        rates.accepted += len(cleaned.accepted)
        found = set[str]()
        for text in cleaned.accepted:
            comparable = _comparable(text)
            inside = {key for key in wanted if key in comparable}
            found |= inside
            if not inside:
                rates.no_description.append((reply["class"], text))
            elif comparable not in wanted:
                rates.junk.append((reply["class"], text))
        rates.lost += [(reply["class"], text) for key, text in wanted.items() if key not in found]
    return rates


def _comparable(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split()).rstrip(" .!")


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("replies", nargs="?", type=Path, default=REPLIES, help="a file of the same form")
    parser.add_argument("--part", choices=PARTS, help="the replies of one part alone")
    parser.add_argument("--show", action="store_true", help="list the texts")
    options = parser.parse_args()
    replies = [reply for reply in read_replies(options.replies) if options.part in (None, reply.get("part"))]
    rates = measure_cleaning(replies)
    print(rates)
    if options.show:
        for kind in ("lost", "junk", "no_description"):
            for name, text in getattr(rates, kind):
                print(f"{kind}: {name}: {text}")


if __name__ == "__main__":
    main()
