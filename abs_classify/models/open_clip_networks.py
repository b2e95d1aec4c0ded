"""The network of a source with its weights. What a stranger's configuration describes is built without memory first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.factory import convert_to_custom_text_state_dict
from torch import Tensor

from abs_classify.models.checkpoint import fit_state, model_errors, read_checkpoint, without_advice
from abs_classify.models.open_clip_sources import CheckpointSource
from abs_classify.models.transformers_networks import build_network, open_clip_state
from abs_core.errors import ModelError
from abs_core.text import printable

__all__ = ["create_network", "load_network"]

#: Parameters that no feature depends on, so a checkpoint may lack them or hold them in vain.
_NOT_IN_FEATURES = ("logit_scale", "logit_bias", "text.transformer.embeddings.position_ids")


def create_network(source: CheckpointSource, device: str = "cpu") -> Any:
    """The network of a source with random weights.

    Args:
        source: the model.
        device: where the weights are to be; ``meta`` for none.

    Raises:
        ModelError: its configuration cannot be built.
        OSError: its text encoder is described in a repository that is not here.
    """
    with model_errors("open_clip cannot build", source.name), without_advice(), torch.device(device):
        if source.shape is not None:
            return build_network(source.shape, source.preprocess)
        return open_clip.create_model(
            source.model,
            load_weights=False,
            pretrained_text=False,
            device=device,
            force_preprocess_cfg=dict(source.preprocess),
        )


def load_network(source: CheckpointSource) -> tuple[Any, tuple[str, ...]]:
    """The network of a source with its weights, on the CPU, and what of the file was left out.

    Raises:
        WeightsError: the weights cannot be read safely, or are of another architecture.
        ModelError: the configuration cannot be built.
    """
    named = read_checkpoint(source.checkpoint, source.sha256)
    subject = f"the weights in {str(source.checkpoint)!r} and the architecture {source.model}"
    try:
        if source.configuration is not None:
            # sizes that the file does not have are found before their memory is asked for
            sketch = create_network(source, "meta")
            state = _under_its_names(sketch, source, named.tensors)
            # nobody chose this architecture: it stands beside the weights
            remedy = f"Take the weights and {source.configuration.name} from the same place, whole"
            fit_state(sketch, state, subject=subject, optional=_NOT_IN_FEATURES, remedy=remedy, copy=False)
        network = create_network(source)
    except OSError as error:
        raise ModelError(
            f"open_clip cannot build {source.name!r}: {printable((str(error).splitlines() or [''])[0], 200)}",
            remedy="Check its open_clip_config.json, or allow downloads if it names other repositories",
        ) from error
    fit_state(network, _under_its_names(network, source, named.tensors), subject=subject, optional=_NOT_IN_FEATURES)
    return network, named.left_out


def _under_its_names(network: Any, source: CheckpointSource, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names of the network."""
    if source.shape is not None:
        state = open_clip_state(source.shape, tensors)
    else:
        with model_errors("open_clip cannot convert the weights of", source.name):
            state = dict(convert_state_dict(network, dict(tensors)))
            if not hasattr(network, "positional_embedding"):
                state = convert_to_custom_text_state_dict(state)
    expected = network.state_dict()
    for key in ("logit_scale", "logit_bias"):
        if key in state and key in expected and state[key].numel() == expected[key].numel():
            state[key] = state[key].reshape(expected[key].shape)
    return state
