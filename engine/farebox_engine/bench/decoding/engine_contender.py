"""The engine as a contender, through the door that the gateway uses."""

from __future__ import annotations

import asyncio
import itertools
import time

from farebox_engine.bench.decoding.workload import Answer
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.models.loader import LoadedModel
from farebox_engine.params import GenerationRequest, SamplingParams

_numbers = itertools.count()


class EngineContender:
    """Requests are submitted at once; chunks are read as they come."""

    def __init__(self, name: str, loaded: LoadedModel, config: EngineConfig) -> None:
        self.name = name
        self._runner = asyncio.Runner()
        self._engine = Engine(loaded, config)
        self._engine.start(self._runner.get_loop())

    def answer(self, prompts: list[list[int]], new_tokens: int) -> list[Answer]:
        """See `Contender.answer`.

        Raises:
            RuntimeError: a generation ended early.
        """
        return self._runner.run(self._answer(prompts, new_tokens))

    def close(self) -> None:
        self._engine.close()
        self._runner.close()

    async def _answer(self, prompts: list[list[int]], new_tokens: int) -> list[Answer]:
        # A salt of its own for each round: no prompt may come from the prefix cache.
        salt = f"round-{next(_numbers)}".encode()
        return list(await asyncio.gather(*(self._generate(prompt, new_tokens, salt) for prompt in prompts)))

    async def _generate(self, prompt: list[int], new_tokens: int, salt: bytes) -> Answer:
        params = SamplingParams(max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
        request = GenerationRequest(f"bench-{next(_numbers)}", prompt, params, salt)
        tokens: list[int] = []
        times: list[float] = []
        async for chunk in self._engine.generate(request):
            tokens.extend(chunk.token_ids)
            times.extend([time.perf_counter()] * len(chunk.token_ids))
            if chunk.error is not None:
                raise RuntimeError(chunk.error)
        if len(tokens) != new_tokens:
            raise RuntimeError(f"{len(tokens)} tokens came instead of {new_tokens}.")
        return Answer(tokens, times)
