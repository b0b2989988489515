"""Mixtures of experts: each token meets a few of many feed-forward networks (Shazeer et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional


class Experts(nn.Module):
    """Gated feed-forward networks of one shape, their matrices stacked: [num_experts, out, in].

    ``parts`` names for each matrix the projections it is made of, in the order of the rows.
    """

    def __init__(self, num_experts: int, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.gate_up_proj = nn.Parameter(torch.empty(num_experts, 2 * intermediate_size, hidden_size))
        self.down_proj = nn.Parameter(torch.empty(num_experts, hidden_size, intermediate_size))
        self.parts = {
            "gate_up_proj": {"gate_proj": intermediate_size, "up_proj": intermediate_size},
            "down_proj": {"down_proj": hidden_size},
        }

    def forward(self, hidden: Tensor, ends: Tensor) -> Tensor:
        """Map rows ``hidden`` [N, hidden_size], sorted by expert, to the same shape.

        ``ends`` int32 [num_experts] is where each expert's rows end.
        """
        gate, up = _grouped_product(hidden, self.gate_up_proj, ends).chunk(2, dim=-1)
        return _grouped_product(functional.silu(gate) * up, self.down_proj, ends)


class SeparateExperts(nn.Module):
    """As `Experts`, for inference on a CPU: ``make`` gives each matrix a linear layer of its own.

    Experts without rows are not read at all.
    """

    def __init__(self, experts: Experts, make: Callable[[nn.Linear], nn.Module]) -> None:
        super().__init__()
        self.num_experts = experts.num_experts
        self._gate_up = nn.ModuleList(make(_linear(matrix)) for matrix in experts.gate_up_proj.detach())
        self._down = nn.ModuleList(make(_linear(matrix)) for matrix in experts.down_proj.detach())

    def forward(self, hidden: Tensor, ends: Tensor) -> Tensor:
        """See `Experts.forward`; at least one row."""
        outputs: list[Tensor] = []
        start = 0
        for end, gate_up, down in zip(ends.tolist(), self._gate_up, self._down, strict=True):
            if end > start:
                gate, up = gate_up(hidden[start:end]).chunk(2, dim=-1)
                outputs.append(down(functional.silu(gate) * up))
            start = end
        return torch.cat(outputs)


def _linear(matrix: Tensor) -> nn.Linear:
    outputs, inputs = matrix.shape
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    linear.weight = nn.Parameter(matrix, requires_grad=False)
    return linear


def _grouped_product(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """Multiply each group of ``rows`` [N, in] by its own of ``matrices`` [groups, out, in] -> [N, out]."""
    aligned = rows.shape[1] * rows.element_size() % 16 == 0
    if aligned and _multiplies_groups(rows.device):
        return functional.grouped_mm(rows, matrices.transpose(1, 2), offs=ends)
    groups = rows.tensor_split(ends[:-1].long().cpu())
    return torch.cat(
        [functional.linear(group, matrix) for group, matrix in zip(groups, matrices, strict=True)]
    )


@cache
def _multiplies_groups(device: torch.device) -> bool:
    """Whether PyTorch has a grouped product for the device; older GPUs lack it."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


class SparseMLP(nn.Module):
    """Sends each token through the ``top_k`` experts its router finds likeliest, and weighs their outputs.

    The weights are the router's probabilities, which sum to one over all experts, or over the
    chosen ones if ``renormalise`` (Jiang et al. 2024, arXiv 2401.04088, section 2.1).
    """

    def __init__(self, experts: Experts, hidden_size: int, top_k: int, *, renormalise: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, experts.num_experts, bias=False)
        self.experts: Experts | SeparateExperts = experts
        self._top_k = top_k
        self._renormalise = renormalise

    def separate(self, make: Callable[[nn.Linear], nn.Module]) -> None:
        """Go on with `SeparateExperts`; the router stays as it is."""
        if isinstance(self.experts, Experts):
            self.experts = SeparateExperts(self.experts, make)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape."""
        weights, chosen = self.gate(hidden).float().softmax(-1).topk(self._top_k)
        if self._renormalise:
            weights = weights / weights.sum(-1, keepdim=True)
        sorted_experts, order = chosen.flatten().sort()
        bounds = torch.arange(1, self.experts.num_experts + 1, device=hidden.device)
        ends = torch.searchsorted(sorted_experts, bounds, out_int32=True)
        outputs = self.experts(hidden[order // self._top_k], ends)
        # Back to the tokens' order, so that a token's outputs are summed in the same order in any batch.
        by_token = torch.empty_like(outputs)
        by_token[order] = outputs
        by_token = by_token.view(*chosen.shape, -1)
        output: Tensor = (by_token * weights.to(hidden.dtype).unsqueeze(-1)).sum(dim=1)
        return output
