"""Tales that the demo model never read, to measure it by."""

from __future__ import annotations

import random

from demo_data.stories import tale

_UNSEEN_SEED, _TALES = 7, 60


def held_out_tales() -> str:
    """Tales in the manner of the model's training, from a seed that its training did not have.

    `farebox_engine/bench/held_out_tales.txt` is this text, because this program is in no wheel.
    """
    rng = random.Random(_UNSEEN_SEED)  # noqa: S311 (variety, not secrecy)
    return "\n".join(tale(rng).text for _ in range(_TALES))
