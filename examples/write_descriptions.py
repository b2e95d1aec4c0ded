"""Write class descriptions with a language model and keep them as a bundle; ask first what it would take.

python examples/write_descriptions.py FOLDER NAME ...
"""

from __future__ import annotations

import sys
from pathlib import Path

from abs_core.labels import from_names
from abs_descriptions import GenerationPlan, Repository, build_provider, estimate_cost, generate


def main(folder: str, *names: str) -> None:
    root = Path(folder)
    labels = from_names(names, name="my-classes")
    repository = Repository.local(root / "bundles")
    # In this process. For a server: build_provider("openai", ProviderOptions(model=..., base_url=...)), with the key
    # in OPENAI_API_KEY; prices and max_cost then bound what is spent.
    provider = build_provider("local")
    plan = GenerationPlan(per_class=1)
    print(estimate_cost(labels, "mine", provider, plan=plan).to_dict()["to_ask"])
    # Replies are kept in the journal: run again after an interruption, and only what is missing is asked.
    summary = generate(labels, "mine", provider, output=repository, plan=plan, journals=root)
    print(summary.reference)
    for description in repository.read("mine").records():
        print(f"    {description.class_id}: {description.text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
