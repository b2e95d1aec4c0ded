"""Compare methods on labelled images: accuracy with intervals, and whether a difference is more than chance.

python examples/evaluate_methods.py [DATASET] [CACHE]
"""

from __future__ import annotations

import sys

from abs_classify import compare, evaluate
from abs_classify.evaluation.comparison import comparison_text


def main(dataset: str = "demo", cache: str | None = None) -> None:
    # Any spec of `abs datasets ls`, such as imagefolder:./val. With a folder as cache no image is ever encoded twice.
    results = evaluate(dataset, "embedded", ["clip", "abs"], views=10, cache=cache)
    print(results)
    print(comparison_text(compare(results[1:], results[:1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
