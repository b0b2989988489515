"""Engines that a test starts: none may end with something held."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from farebox_engine import Engine
from farebox_engine.encoders import EncoderEngine, EncoderStats

AnyEngine = TypeVar("AnyEngine", Engine, EncoderEngine)


@contextmanager
def started(build: Callable[..., AnyEngine]) -> Iterator[Callable[..., AnyEngine]]:
    """A function that starts what `build` makes; closed at the context's end, when none may hold a
    request or a block."""
    engines: list[AnyEngine] = []

    def start(*arguments: Any, **settings: Any) -> AnyEngine:
        engine = build(*arguments, **settings)
        engine.start(asyncio.get_running_loop())
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        stats = engine.stats()
        engine.close()
        if isinstance(stats, EncoderStats):
            assert stats.waiting_requests == 0
        else:
            assert (stats.running, stats.waiting) == (0, 0)
            assert stats.free_blocks == stats.total_blocks
