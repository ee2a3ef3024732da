"""Training as it runs in a worker: on one thread, which is also kinder to a busy machine."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
