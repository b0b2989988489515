"""Feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.layers.fused import FusedLinear

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(states: Tensor) -> Tensor:
    """GELU by its tanh formula (Hendrycks and Gimpel 2016, arXiv 1606.08415), as GPT-2 and Gemma use it."""
    return functional.gelu(states, approximate="tanh")


class GatedMLP(nn.Module):
    """activation(gate(x)) * up(x), projected back (Shazeer 2020, arXiv 2002.05202).

    Gate and up are one matrix so that x is read once.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        *,
        bias: bool = False,
        activation: Activation = functional.silu,
    ) -> None:
        super().__init__()
        self._activation = activation
        parts = {"gate_proj": intermediate_size, "up_proj": intermediate_size}
        self.gate_up_proj = FusedLinear(hidden_size, parts, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``hidden`` [..., hidden_size] to the same shape."""
        gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
        output: Tensor = self.down_proj(self._activation(gate) * up)
        return output
