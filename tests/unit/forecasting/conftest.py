"""Run training on one thread, as a training worker does; this also leaves the other cores to other tests."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
