"""Who used how much of the device: a step's time split among the inputs in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from farebox_engine.encoders.job import JobInput
from farebox_engine.encoders.loader import LoadedEncoder
from farebox_engine.serving.device_ledger import DeviceLedger


@dataclass(frozen=True, slots=True)
class EncoderCost:
    """Estimates what an input costs, in operations.

    `layer_parameters` are those that each token meets, `attention_width` the layers' widths together.
    """

    layer_parameters: int
    attention_width: int

    @classmethod
    def of(cls, loaded: LoadedEncoder) -> EncoderCost:
        layers = loaded.model.encoder.get_submodule("layers")
        return cls(
            layer_parameters=sum(parameter.numel() for parameter in layers.parameters()),
            attention_width=loaded.config.num_layers * loaded.config.hidden_size,
        )

    def costs(self, lengths: Sequence[int]) -> list[float]:
        """The cost of each input of so many tokens."""
        tokens = np.array(lengths, dtype=np.float64)
        # Two operations per weight and token; four per unit of width and pair of positions.
        costs = 2.0 * self.layer_parameters * tokens + 4.0 * self.attention_width * tokens**2
        found: list[float] = costs.tolist()
        return found


class EncoderAccounting:
    """Charges each step to its jobs on a `DeviceLedger`."""

    def __init__(self, model: EncoderCost, ledger: DeviceLedger) -> None:
        self.ledger = ledger
        self.tokens = 0
        self._model = model

    def charge(self, inputs: Sequence[JobInput], busy_ns: int) -> None:
        """Split the time of a step among its inputs."""
        lengths = [len(each.tokens) for each in inputs]
        self.tokens += sum(lengths)
        for each, share in zip(inputs, self.ledger.split(busy_ns, self._model.costs(lengths)), strict=True):
            each.job.device_ns += share
