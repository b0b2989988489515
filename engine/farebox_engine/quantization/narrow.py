"""Linear layers for a GPU with weights of eight bits; for inference only."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.kernels.plain import FP8_PEAK

_INT8_PEAK = 127
# Up to here a product is bound by reading its weight; more rows pay for widening it in memory.
_KERNEL_ROWS = 256
# What `torch._scaled_mm` asks of both sides of a weight.
_FP8_ALIGNMENT = 16


class NarrowKernels(Protocol):
    """See `farebox_engine.kernels.narrow`; `farebox_engine.kernels.plain` is the same without a GPU."""

    def int8_linear(
        self, rows: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None, processors: int
    ) -> Tensor: ...

    def quantize_rows(self, rows: Tensor) -> tuple[Tensor, Tensor]: ...


class Int8WeightLinear(nn.Module):
    """As `nn.Linear`, its weight kept in int8 with a scale per output; inputs keep their precision."""

    def __init__(self, linear: nn.Linear, kernels: NarrowKernels, processors: int = 1) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self._scales = _scales(weight, _INT8_PEAK)[:, 0]
        self._weight = (weight.float() / self._scales[:, None]).round_().to(torch.int8)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._kernels = kernels
        self._processors = processors

    def forward(self, rows: Tensor) -> Tensor:
        """Map [N, in_features] to [N, out_features], of the same dtype."""
        if rows.shape[0] <= _KERNEL_ROWS:
            return self._kernels.int8_linear(rows, self._weight, self._scales, self._bias, self._processors)
        return functional.linear(rows, self._widened(rows.dtype), self._bias)

    def _widened(self, dtype: torch.dtype) -> Tensor:
        """The weight, scaled before it is multiplied: sums of unscaled products would overflow fp16."""
        return self._weight.to(dtype).mul_(self._scales.to(dtype)[:, None])


class Fp8Linear(nn.Module):
    """As `nn.Linear`, computed in fp8 (e4m3): a scale per output of the weight, and one per row of the input.

    A row's scale is found anew in each call, on the device, so that a row depends on itself alone.
    ``scales_inside`` leaves the scaling to the product, which Hopper and newer can for bf16;
    otherwise it follows in fp32.
    """

    def __init__(self, linear: nn.Linear, kernels: NarrowKernels, *, scales_inside: bool) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales = _scales(weight, FP8_PEAK)
        # The second factor of the product must lie column by column.
        self._weight = quantize_to_fp8(weight, scales).t()
        self._scales = scales.t().contiguous()
        self._one = torch.ones((), device=weight.device)
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._kernels = kernels
        self._scales_inside = scales_inside

    def forward(self, rows: Tensor) -> Tensor:
        """Map [N, in_features] to [N, out_features], of the same dtype."""
        narrow, scales = self._kernels.quantize_rows(rows)
        if self._scales_inside:
            output = _scaled_product(narrow, self._weight, scales, self._scales, rows.dtype)
        else:
            sums = _scaled_product(narrow, self._weight, self._one, self._one, torch.float32)
            output = sums.mul_(scales).mul_(self._scales).to(rows.dtype)
        return output if self._bias is None else output.add_(self._bias)

    @staticmethod
    def fits(linear: nn.Linear) -> bool:
        """Whether the device's product takes a weight of this shape."""
        return linear.in_features % _FP8_ALIGNMENT == 0 and linear.out_features % _FP8_ALIGNMENT == 0


class EmulatedFp8Linear(nn.Module):
    """What `Fp8Linear` computes, on any device: rounded to e4m3, then multiplied and summed in fp32."""

    def __init__(self, linear: nn.Linear, kernels: NarrowKernels) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales = _scales(weight, FP8_PEAK)
        self._weight = quantize_to_fp8(weight, scales).float() * scales
        self._bias = None if linear.bias is None else linear.bias.detach().float()
        self._kernels = kernels

    def forward(self, rows: Tensor) -> Tensor:
        """Map [N, in_features] to [N, out_features], of the same dtype."""
        narrow, scales = self._kernels.quantize_rows(rows)
        return functional.linear(narrow.float() * scales, self._weight, self._bias).to(rows.dtype)


def quantize_to_fp8(weight: Tensor, scales: Tensor) -> Tensor:
    """`weight` [out, in] over fp32 `scales` [out, 1], in e4m3."""
    return (weight.float() / scales).clamp_(-FP8_PEAK, FP8_PEAK).to(torch.float8_e4m3fn)


def _scales(weight: Tensor, peak: float) -> Tensor:
    """What brings each output's largest weight to `peak`, fp32 [out, 1]."""
    largest = weight.abs().amax(dim=1, keepdim=True).float()
    return (largest / peak).clamp_min(torch.finfo(torch.float32).tiny)


def _scaled_product(
    rows: Tensor, weight: Tensor, row_scales: Tensor, output_scales: Tensor, dtype: torch.dtype
) -> Tensor:
    # Underscored, yet the one door to fp8 products that all supported releases of torch have.
    output: Tensor = torch._scaled_mm(  # noqa: SLF001
        rows, weight, scale_a=row_scales, scale_b=output_scales, out_dtype=dtype
    )
    return output
