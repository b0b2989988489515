"""What is kept from training, to judge the model by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from farebox_engine.training.corpus import Passage, Unit


def hold_out(units: Sequence[Unit], share: float, seed: int) -> tuple[list[Unit], list[Unit]]:
    """Split off about ``share`` of the units; what training also contains is not kept as held out."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(len(units), generator=generator) < share).tolist()
    training = [unit for unit, held in zip(units, drawn, strict=True) if not held]
    seen = set(training)
    held_out = [unit for unit, held in zip(units, drawn, strict=True) if held and unit not in seen]
    return training, held_out


def by_kind(units: Iterable[Unit]) -> dict[str, list[Unit]]:
    """Sort units into "text" and "chat", leaving out a kind that has none."""
    kinds: dict[str, list[Unit]] = {}
    for unit in units:
        kinds.setdefault("text" if isinstance(unit, Passage) else "chat", []).append(unit)
    return kinds
