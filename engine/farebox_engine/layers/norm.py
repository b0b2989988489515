"""Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """Scale each row to unit root mean square, in fp32 whatever the input's dtype, then by a weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise ``hidden`` [..., size]; keeps shape and dtype."""
        if hidden.dtype == torch.float32:
            return functional.rms_norm(hidden, self.weight.shape, self.weight, self.eps)
        # Rounding before the weight, not after, is what checkpoints were trained with.
        return self.weight * functional.rms_norm(hidden.float(), self.weight.shape, eps=self.eps).to(
            hidden.dtype
        )


class OffsetRMSNorm(RMSNorm):
    """As `RMSNorm`, but the checkpoint's weight is the difference from one, and rounding comes last.

    Gemma stores its weights so (arXiv 2403.08295).
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise ``hidden`` [..., size]; keeps shape and dtype."""
        scale = 1.0 + self.weight.float()
        return functional.rms_norm(hidden.float(), self.weight.shape, scale, self.eps).to(hidden.dtype)
