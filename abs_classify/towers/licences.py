"""The licences of published weights, by family, and where each one is stated.

No hub is asked: licences are facts that were read once. They are a help, not advice; publishers change them, so read
the page that is named before you ship anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Licence", "licence_of"]


@dataclass(frozen=True)
class Licence:
    """What a family of weights may be used for.

    Args:
        name: the SPDX identifier where there is one.
        source: where it is stated.
        note: what a reader should know besides; empty if nothing.
    """

    name: str
    source: str
    note: str = ""


_RESEARCH = "research only: no product and no service"
_NON_COMMERCIAL = "non-commercial use only"

#: pattern on the hub repository -> licence. The first match holds, so a family stands before what it derives from.
_FAMILIES: tuple[tuple[str, Licence], ...] = (
    (
        r"^visheratin/",
        Licence("CC-BY-NC-4.0", "https://huggingface.co/visheratin/nllb-clip-base-siglip", _NON_COMMERCIAL),
    ),
    (
        r"^apple/DFN",
        Licence(
            "Apple's own",
            "https://huggingface.co/apple/DFN2B-CLIP-ViT-L-14-39B (file LICENSE)",
            "named apple-sample-code-license when it was read; newer Apple weights are for research only",
        ),
    ),
    (r"/MobileCLIP", Licence("apple-amlr", "https://huggingface.co/apple/MobileCLIP-S2-OpenCLIP", _RESEARCH)),
    (
        r"\.metaclip",
        Licence("CC-BY-NC-4.0", "https://github.com/facebookresearch/MetaCLIP (file LICENSE)", _NON_COMMERCIAL),
    ),
    (
        r"\.openai$",
        Licence(
            "MIT",
            "https://github.com/openai/CLIP (file LICENSE; it does not name the weights)",
            "OpenAI's model card calls every deployed use out of scope",
        ),
    ),
    (r"/eva(02)?_", Licence("MIT", "https://github.com/baaivision/EVA (file LICENSE)")),
    (r"^timm/.*SigLIP", Licence("Apache-2.0", "https://huggingface.co/timm/ViT-B-16-SigLIP")),
    (r"^timm/PE-Core", Licence("Apache-2.0", "https://huggingface.co/facebook/PE-Core-B16-224")),
    (r"^UCSC-VLAA/", Licence("Apache-2.0", "https://github.com/UCSC-VLAA/CLIPA (file LICENSE.md)")),
    (
        r"^jienengchen/ViTamin",
        Licence("Apache-2.0", "https://github.com/Beckschen/ViTamin (its authors: Apache licence)"),
    ),
    (
        r"^laion/|\.(laion|yfcc|cc12m)",
        Licence(
            "MIT", "https://github.com/mlfoundations/open_clip (file LICENSE; its authors say the same of the weights)"
        ),
    ),
    (r"\.dino$", Licence("Apache-2.0", "https://huggingface.co/facebook/dino-vitb16")),
)


def licence_of(repository: str) -> Licence | None:
    """The licence of the weights in a hub repository, ``organisation/name``; None where it is not known here."""
    return next((licence for pattern, licence in _FAMILIES if re.search(pattern, repository)), None)
