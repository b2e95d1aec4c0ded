"""A bundle with a history: birds@1.0.0, two reviews of it, and a merge of these."""

from __future__ import annotations

import csv
from pathlib import Path

from bundle_samples import import_texts
from support import Abs

BIRDS = (
    "sparrow\tA sparrow has a short beak and brown fethers.",
    "sparrow\tA sparrow hops on the ground.",
    "sparrow\tA sparrow has a grey crown.",
    "owl\tAn owl has large round eyes.",
    "owl\tAn owl hoots at night.",
)
DECISIONS = {
    "Jane Doe": {
        0: {"decision": "edit", "new_text": "A sparrow has a short beak and brown feathers."},
        3: {"decision": "accept"},
    },
    "Ravi": {4: {"decision": "reject", "reason": "no picture shows it"}, 1: {"decision": "accept"}},
}


def make_history(abs_command: Abs, folder: Path) -> None:
    """Put birds@1.0.0 to birds@1.3.0 into the store of a command."""
    import_texts(abs_command, "birds", *BIRDS)
    written = Path(abs_command("bundle", "review", "birds", "--out", folder / "reviews").out.split()[0])
    with written.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for reviewer, decisions in DECISIONS.items():
        path = folder / f"{reviewer}.csv"
        with path.open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows({**row, **decisions.get(place, {})} for place, row in enumerate(rows))
        made = abs_command("bundle", "review", "birds@1.0.0", "--read", path, "--reviewer", reviewer, "--fork")
        assert made.code == 0, made
    assert abs_command("bundle", "merge", "birds@1.1.0", "birds@1.2.0").code == 0
