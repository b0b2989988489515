"""Which linear layers a model computes with on its device."""

from __future__ import annotations

import importlib
import importlib.util
from typing import cast

import torch
from torch import nn

from farebox_engine.errors import LoadError
from farebox_engine.kernels import plain
from farebox_engine.layers.experts import SparseMLP
from farebox_engine.quantization.narrow import EmulatedFp8Linear, Fp8Linear, Int8WeightLinear, NarrowKernels
from farebox_engine.quantization.packed import pack_linears
from farebox_engine.quantization.replacing import replace_linears

# Ada, Hopper and newer multiply fp8; Hopper and newer scale rows and outputs within the product.
_FP8_CAPABILITY, _INSIDE_CAPABILITY = (8, 9), (9, 0)


def check_quantization(quantization: str | None, device: torch.device) -> None:
    """See that `device` can compute in `quantization`; asked before a model is loaded.

    Raises:
        LoadError: fp8 on a CPU or an older GPU.
    """
    if quantization != "fp8":
        return
    if device.type != "cuda":
        raise LoadError("The engine setting quantization is 'fp8', which needs a GPU; use int8 on a CPU.")
    capability = torch.cuda.get_device_capability(device)
    if capability < _FP8_CAPABILITY:
        raise LoadError(
            "The engine setting quantization is 'fp8', which takes a GPU of compute capability 8.9 (Ada, "
            f"Hopper) or newer; {torch.cuda.get_device_name(device)} has {'.'.join(map(str, capability))}: "
            "use int8."
        )


def prepare_linears(model: nn.Module, quantization: str | None, device: torch.device) -> None:
    """Lay a model's linear layers out for its device, in place and once; for inference only.

    Raises:
        LoadError: see `check_quantization`.
    """
    check_quantization(quantization, device)
    if device.type == "cpu":
        pack_linears(model, quantization)
    elif quantization is not None:
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        narrow_linears(model, quantization, _kernels(), processors)
        # What the wide weights took is the device's again: the KV cache is sized by its free memory.
        torch.cuda.empty_cache()


def narrow_linears(model: nn.Module, quantization: str, kernels: NarrowKernels, processors: int = 1) -> None:
    """Quantize a model's linear layers to "int8" weights or to "fp8", as a GPU computes them, in place.

    Experts stay as they are, and so does what chooses among them: a router that errs asks the wrong
    ones. A layer of a shape that fp8 products do not take stays, too. `processors` is how many the
    GPU has.
    """

    def fp8(linear: nn.Linear) -> nn.Module:
        inside = scales_inside(linear.weight.device, linear.weight.dtype)
        return Fp8Linear(linear, kernels, scales_inside=inside) if Fp8Linear.fits(linear) else linear

    def int8(linear: nn.Linear) -> nn.Module:
        return Int8WeightLinear(linear, kernels, processors)

    replace_linears(model, fp8 if quantization == "fp8" else int8, skip=(SparseMLP,))


def scales_inside(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `device` scales rows and outputs within an fp8 product of results in `dtype`."""
    return (
        device.type == "cuda"
        and dtype == torch.bfloat16
        and torch.cuda.get_device_capability(device) >= _INSIDE_CAPABILITY
    )


def emulate_fp8(model: nn.Module, kernels: NarrowKernels) -> None:
    """As `narrow_linears` to "fp8", computed in fp32 on any device: to measure what fp8 costs."""

    def emulated(linear: nn.Linear) -> nn.Module:
        return EmulatedFp8Linear(linear, kernels) if Fp8Linear.fits(linear) else linear

    replace_linears(model, emulated, skip=(SparseMLP,))


def _kernels() -> NarrowKernels:
    if importlib.util.find_spec("triton") is None:
        return plain
    # By name, because only a machine with a GPU need have triton.
    return cast(NarrowKernels, importlib.import_module("farebox_engine.kernels.narrow"))
