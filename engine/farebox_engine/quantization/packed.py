"""Linear layers for a CPU, their weights laid out once as the kernels read them; for inference only."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from farebox_engine.layers.experts import SparseMLP
from farebox_engine.quantization.replacing import replace_linears

# A layout made for 32 rows is as fast as any from 1 row to 256; one made for 1 row is not.
_ROWS = 32
_STEPS = 127


class PackedLinear(nn.Module):
    """As `nn.Linear`, with the weight in oneDNN's blocked layout, in the same precision.

    `nn.Linear` has a product's weight rearranged on each call, which for a few rows costs
    more than the product: this takes half the time.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # Underscored, yet what torch's own compiler emits for a frozen linear layer on a CPU.
        operators = torch.ops.mkldnn
        self._weight: Any = operators._reorder_linear_weight(linear.weight.detach(), _ROWS)  # noqa: SLF001
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._product = operators._linear_pointwise.default  # noqa: SLF001

    def forward(self, rows: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        output: Tensor = self._product(rows, self._weight, self._bias, "none", [], "")
        return output


class Int8Linear(nn.Module):
    """As `nn.Linear`, computed in int8: a scale per output of the weight, and one per row of the input.

    A scale for the input as a whole, the usual way (`quantized::linear_dynamic`), would let one
    request's outliers ruin the others' answers; this way a row depends on itself alone. Products
    are summed in int32, so that the order of summation does not matter either.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = (weight.abs().amax(dim=1) / _STEPS).clamp_min(torch.finfo(torch.float32).tiny)
        zeros = torch.zeros(weight.shape[0], dtype=torch.int64)
        with warnings.catch_warnings():
            # Quantized tensors are to go in some later release; the supported range of torch has them.
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions")
            quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self._weight: Any = torch.ops.quantized.linear_prepack(quantized, None)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default

    def forward(self, rows: Tensor) -> Tensor:
        """Map fp32 [N, in_features] to [N, out_features]."""
        peak = rows.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-30)
        output: Tensor = self._product(rows / peak, 1.0 / _STEPS, _STEPS, self._weight)
        output.mul_(peak)
        return output if self._bias is None else output.add_(self._bias)


def pack_linears(model: nn.Module, quantization: str | None) -> None:
    """Replace every `nn.Linear` of a model on a CPU in place; the original weights are let go.

    A head tied to an embedding leaves the embedding as it is. ``quantization`` is None or "int8": then
    experts are quantized too, but not what chooses among them, since a router that errs asks the wrong ones.
    """
    if quantization == "int8":
        replace_linears(model, Int8Linear, skip=(SparseMLP,))
        for module in model.modules():
            if isinstance(module, SparseMLP):
                module.separate(Int8Linear)
    elif _takes_packing(model):
        replace_linears(model, PackedLinear)


def _takes_packing(model: nn.Module) -> bool:
    dtypes = {parameter.dtype for parameter in model.parameters()}
    onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return onednn and dtypes == {torch.float32}
