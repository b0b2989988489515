"""The tensors in safetensors files: their shapes first, their content when a model has been found to fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from farebox_engine.checkpoint.fields import ConfigError
from farebox_engine.checkpoint.symlinks import refuse_special_file
from farebox_engine.errors import LoadError
from farebox_engine.machine import is_shortage

_FLOATS = {"F64", "F32", "F16", "BF16"}
# What those who quantize call the tensors beside, or instead of, a module's weight.
_QUANTIZED = {
    ".qweight": "GPTQ or AWQ",
    ".weight.absmax": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "fp8 or compressed-tensors",
    ".weight_scale_inv": "fp8",
}

Fill = Callable[[nn.Module, Mapping[str, Tensor]], None]


class Tensors(Mapping[str, Tensor]):
    """The tensors of several safetensors files by name, read when asked for; a context manager."""

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._stack = ExitStack()
        self._file_of: dict[str, safe_open] = {}

    def __enter__(self) -> Tensors:
        """Raises `LoadError`: a file is broken, or two hold a tensor of one name."""
        for path in self._files:
            refuse_special_file(path)
            try:
                file = self._stack.enter_context(safe_open(path, framework="pt"))
            except (SafetensorError, OSError) as error:
                self._stack.close()
                raise LoadError(
                    f"{path} is not a whole safetensors file ({error}); copy or download it again."
                ) from error
            twice = self._file_of.keys() & set(file.keys())
            if twice:
                self._stack.close()
                raise LoadError(
                    f"The checkpoint holds a tensor twice, {min(twice)}: in {path} and in a file before it; "
                    "export the model again."
                )
            self._file_of.update(dict.fromkeys(file.keys(), file))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._file_of[name].get_tensor(name)  # type: ignore[no-untyped-call]
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def outline(self, name: str) -> Tensor:
        """A tensor without its content, on the meta device.

        Raises:
            ConfigError: it holds no floating-point numbers of 16 bits or more.
        """
        piece = self._file_of[name].get_slice(name)  # type: ignore[no-untyped-call]
        if piece.get_dtype() not in _FLOATS:
            raise ConfigError(
                f"{name} is quantized ({piece.get_dtype()}), which is not supported; "
                "save it as floating-point numbers."
            )
        return torch.empty(piece.get_shape(), device="meta")


class Outlines(Mapping[str, Tensor]):
    """All of `tensors` as outlines."""

    def __init__(self, tensors: Tensors) -> None:
        """Raises `ConfigError` if their names are those of a quantized model."""
        self._tensors = tensors
        for name in tensors:
            for ending, method in _QUANTIZED.items():
                if name.endswith(ending):
                    raise ConfigError(
                        f"it is quantized by {method}, as {name} shows, which is not supported; "
                        "take the model that it was made from."
                    )

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors.outline(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def load_module(
    build: Callable[[], nn.Module],
    fill: Fill,
    tensors: Tensors,
    *,
    layers: int,
    device: torch.device,
    dtype: torch.dtype,
) -> nn.Module:
    """Build a module and `fill` it from `tensors`, cast to `dtype`.

    First without content: nothing is allocated before the checkpoint's tensors are known to
    be those that `build` makes room for, whatever sizes its config.json claims. On the meta
    device that is all. `fill` raises `ConfigError` where they are not; `layers` is how many
    `build` makes, each of at least one tensor.

    Raises:
        ConfigError: the tensors do not fit, or there is not enough memory for them.
    """
    if layers > len(tensors):
        raise ConfigError(
            f"config.json asks for {layers} layers, but the checkpoint has only {len(tensors)} tensors."
        )
    module = outline_module(build)
    fill(module, Outlines(tensors))
    try:
        allocate(module, device, dtype)
        if device.type != "meta":
            fill(module, tensors)
    except Exception as error:
        if not is_shortage(error):
            raise
        parameters = sum(parameter.numel() for parameter in module.parameters())
        raise ConfigError(
            f"there is no memory left for its {parameters} parameters; free some or take a smaller model."
        ) from error
    return module


def outline_module(build: Callable[[], nn.Module]) -> nn.Module:
    """A module whose parameters are on the meta device.

    Raises:
        ConfigError: they would have more elements than can be counted.
    """
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, OverflowError) as error:
        raise ConfigError("config.json asks for sizes that no computer can hold.") from error


def allocate(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Give an outlined module uninitialised parameters; tied ones stay tied."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter not in made:
                storage = torch.empty(parameter.shape, dtype=dtype, device=device)
                made[parameter] = nn.Parameter(storage, requires_grad=False)
            setattr(part, name, made[parameter])
