"""Training-free test-time baselines on the same features: one module for each method, with a scorer and its functions.

    mta.py      MTA, MeanShift for test-time augmentation (Zanella & Ben Ayed, CVPR 2024); per image
    zero.py     ZERO (Farina et al., NeurIPS 2024); per image
    awt.py      AWT (Zhu et al., NeurIPS 2024); per image
    tda.py      TDA, training-free dynamic adapter (Karmanov et al., CVPR 2024); a stream
    dmn.py      DMN, dual memory networks, the variant without training (Zhang et al., CVPR 2024); a stream
    onzeta.py   OnZeta, online zero-shot transfer (Qian & Hu, ECCV 2024); a stream
    memory.py   the features that TDA and DMN keep
    waffle.py   the random texts of WaffleCLIP (Roth et al., ICCV 2023)

Results of a stream depend on the order of the images. All but AWT take one text vector for each class (the normalised
mean, where a class has several texts); all take the logit scale 100 of OpenAI's CLIP.
"""

from __future__ import annotations

from abs_classify.methods.baselines.awt import AWT
from abs_classify.methods.baselines.dmn import DMN
from abs_classify.methods.baselines.mta import MTA
from abs_classify.methods.baselines.onzeta import OnZeta
from abs_classify.methods.baselines.tda import TDA
from abs_classify.methods.baselines.zero import Zero

__all__ = ["AWT", "DMN", "MTA", "TDA", "OnZeta", "Zero"]
