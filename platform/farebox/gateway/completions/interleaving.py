"""Several generations read as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from farebox.gateway.models.generation import Chunk, Generation

Item = tuple[int, Chunk]


async def interleave(generations: Sequence[Generation]) -> AsyncGenerator[Item, None]:
    """The chunks of all generations as they come, each with its generation's index.

    Little waits here (one chunk in the queue, one in each reader's hand), so that a backend whose
    reader is slow goes on merging. Raises what a generation's iteration raises.
    """
    queue: asyncio.Queue[Item | Exception] = asyncio.Queue(maxsize=1)
    readers = [asyncio.create_task(_read(index, g, queue)) for index, g in enumerate(generations)]
    try:
        unended = len(generations)
        while unended:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            unended -= item[1].finish_reason is not None
            yield item
    finally:
        for reader in readers:
            reader.cancel()


async def _read(index: int, generation: Generation, queue: "asyncio.Queue[Item | Exception]") -> None:
    try:
        async for chunk in generation:
            await queue.put((index, chunk))
    except Exception as error:
        await queue.put(error)
