"""Which descriptions of a bundle to keep: decisions on sentence embeddings, and the child version that records them.

``child_version.filter_bundle`` does the whole work. ``criteria`` is pure: numpy and nothing else.
docs/filtering.md states the criteria as formulas.
"""
