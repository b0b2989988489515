"""A tapped generation: chunks at once while its reader waits, to the reader otherwise."""

from farebox_engine import Chunk
from tests.engine.conftest import StartEngine
from tests.engine.generating import Answer, answer, begin, collect, random_prompts

PROMPT = random_prompts(3, (9,))[0]


async def test_what_is_taken_at_once_and_what_is_read_make_one_answer(start_engine: StartEngine) -> None:
    engine = start_engine()
    expected = await answer(engine, PROMPT)
    generation = begin(engine, PROMPT)
    order: list[tuple[str, Chunk]] = []
    offered = 0

    def take(chunk: Chunk) -> bool:
        nonlocal offered
        offered += 1
        if offered % 3 == 0:
            return False
        order.append(("tap", chunk))
        return True

    generation.tap(take)
    async for chunk in generation:
        order.append(("reader", chunk))
    found = Answer(tuple(chunk for _, chunk in order))
    assert (found.tokens, found.text, found.usage.completion_tokens) == (
        expected.tokens,
        expected.text,
        expected.usage.completion_tokens,
    )
    ways = [way for way, _ in order]
    assert ways.count("tap") >= 8
    assert ways.count("reader") >= 5
    assert ways[-1] == "reader"


async def test_nothing_is_offered_while_the_reader_is_busy(start_engine: StartEngine) -> None:
    engine = start_engine()
    generation, other = begin(engine, PROMPT, max_tokens=64), begin(engine, PROMPT)
    offered: list[Chunk] = []
    busy = False

    def take(chunk: Chunk) -> bool:
        assert not busy
        offered.append(chunk)
        return False

    generation.tap(take)
    chunks = [await anext(generation)]
    before, busy = len(offered), True
    # All of another answer is computed beside this one meanwhile.
    await collect(other)
    assert len(offered) == before
    busy = False
    chunks.append(await anext(generation))
    assert len(chunks[-1].token_ids) > 1, "what came while the reader was busy is one chunk"
    chunks += [chunk async for chunk in generation]
    assert len(Answer(tuple(chunks)).tokens) == 64
