"""The engine alone: `python -m tests.bench.batch_offline CASE STREAMS THREADS`.

Answers all prompts once for each line on stdin, and writes the figures as a line of JSON.
"""

import asyncio
import itertools
import os
import sys
import time

import msgspec
import uvloop

from farebox_engine.engine import Engine
from farebox_engine.params import GenerationRequest, SamplingParams
from tests.bench.batch_models import CASES, conversation, load_engine
from tests.bench.steady import Steady, Window, between

_numbers = itertools.count()


async def _read(engine: Engine, prompt: list[int], new_tokens: int, window: Window) -> list[float]:
    """Generate one answer; when each of its tokens was known here."""
    params = SamplingParams(max_tokens=new_tokens, temperature=0.0, ignore_eos=True)
    times: list[float] = []
    async for chunk in engine.generate(GenerationRequest(f"bench-{next(_numbers)}", prompt, params)):
        if chunk.error is not None:
            raise RuntimeError(chunk.error)
        if not times:
            window.begun()
        times.extend([time.perf_counter()] * len(chunk.token_ids))
    window.ended()
    return times


async def answer(engine: Engine, streams: int, new_tokens: int) -> Steady:
    """One round: all streams at once."""
    window = Window(streams, os.getpid())
    prompts = [engine.render_chat(conversation(stream)) for stream in range(streams)]
    found = await asyncio.gather(*(_read(engine, prompt, new_tokens, window) for prompt in prompts))
    begin, end = window.bounds
    tokens = sum(begin.time < moment <= end.time for times in found for moment in times)
    return between(begin, end, tokens, 0)


async def main(case: str, streams: int, threads: int) -> None:
    engine = load_engine(case, streams, threads)
    engine.start(asyncio.get_running_loop())
    while await asyncio.to_thread(sys.stdin.readline):
        steady = await answer(engine, streams, CASES[case].new_tokens)
        sys.stdout.write(msgspec.json.encode(steady).decode() + "\n")
        sys.stdout.flush()
    engine.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
