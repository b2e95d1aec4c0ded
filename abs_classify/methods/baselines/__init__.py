"""Training-free test-time rivals on the same features: one module a method, pure functions and a scorer each.

    mta.py      MTA, MeanShift for test-time augmentation (Zanella & Ben Ayed, CVPR 2024); per image
    zero.py     ZERO (Farina et al., NeurIPS 2024); per image
    tda.py      TDA, training-free dynamic adapter (Karmanov et al., CVPR 2024); a stream
    dmn.py      DMN, dual memory networks, the variant without training (Zhang et al., CVPR 2024); a stream
    onzeta.py   OnZeta, online zero-shot transfer (Qian & Hu, ECCV 2024); a stream
    memory.py   the features that TDA and DMN remember

Results of a stream depend on the order of the images. All take one text vector a class (the normalised mean, where a
class has several texts) and the logit scale 100 of OpenAI's CLIP.
"""

from __future__ import annotations

from abs_classify.methods.baselines.dmn import DMN
from abs_classify.methods.baselines.mta import MTA
from abs_classify.methods.baselines.onzeta import OnZeta
from abs_classify.methods.baselines.tda import TDA
from abs_classify.methods.baselines.zero import Zero

__all__ = ["DMN", "MTA", "TDA", "OnZeta", "Zero"]
