"""A network's weights as numpy's npz: read without pickle."""

from __future__ import annotations

import io
from zipfile import BadZipFile

import numpy as np
import torch

from make_us_rich.errors import BadModel
from make_us_rich.forecasting.architectures import architecture
from make_us_rich.forecasting.networks import Network
from make_us_rich.forecasting.recipe import Recipe


def to_npz(network: Network) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.detach().cpu().numpy() for name, value in network.state_dict().items()})
    return buffer.getvalue()


def from_npz(content: bytes, recipe: Recipe) -> Network:
    """The network that `to_npz` wrote. Raises BadModel when it is not one of this recipe."""
    network = architecture(recipe.architecture).build(recipe.hidden, recipe.length)
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    except (ValueError, OSError, RuntimeError, BadZipFile) as error:
        raise BadModel(
            f"the weights to start from are not of a {recipe.architecture} of {recipe.hidden}: {error}"
        ) from None
    return network
