"""The encoder engine's door: batches, shares, cancellation, failures, closing."""

import asyncio
import os
import threading
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from farebox_engine import ClosedError, ComputeError, RequestError
from farebox_engine.encoders import Embeddings, EncoderEngine, EncoderRequest
from tests.engine.checkpoints import without_number
from tests.engine.encoders.conftest import StartEncoder, load_engine
from tests.engine.encoders.reference import Reference, random_tokens, relative_error


def token_ids(seed: int, *lengths: int) -> list[list[int]]:
    return [tokens.ids.tolist() for tokens in random_tokens(seed, lengths, types=False)]


async def test_embeddings_agree_with_transformers_in_requests_of_many_sizes(
    start_encoder: StartEncoder, embedder: Path
) -> None:
    engine = start_encoder(embedder, step_tokens=100)
    reference = Reference(embedder, "Bert")
    requests = [token_ids(1, 7), token_ids(2, 40, 3, 140), token_ids(3, *range(1, 60, 4)), token_ids(4, 140)]
    found = await asyncio.gather(*[engine.embed(request) for request in requests])
    inputs = [
        random_tokens(1, (7,), types=False),
        random_tokens(2, (40, 3, 140), types=False),
        random_tokens(3, range(1, 60, 4), types=False),
        random_tokens(4, (140,), types=False),
    ]
    assert engine.stats().steps > len(requests), "the budget cuts the longest requests"
    for result, request in zip(found, inputs, strict=True):
        expected = np.stack([reference.outputs(tokens).mean(axis=0) for tokens in request])
        assert relative_error(result.vectors, expected) < 1e-4
        assert result.usage.tokens == sum(map(len, request))


async def test_a_vector_does_not_depend_on_the_company(start_encoder: StartEncoder, embedder: Path) -> None:
    engine = start_encoder(embedder)
    (own,) = token_ids(5, 33)
    alone = (await engine.embed([own])).vectors[0]
    crowd = await engine.embed([*token_ids(6, 20, 33, 31, 90), own, *token_ids(7, 30, 1, 35)])
    assert relative_error(crowd.vectors[4], alone) < 1e-5


async def test_device_seconds_add_up_to_busy_time(start_encoder: StartEncoder, embedder: Path) -> None:
    engine = start_encoder(embedder, step_tokens=150)
    requests = [
        token_ids(seed, *lengths) for seed, lengths in enumerate([(5,), (140, 140), (20, 9, 60), (1,)])
    ]
    found = await asyncio.gather(*[engine.embed(request) for request in requests])
    seconds = [result.usage.device_seconds for result in found]
    stats = engine.stats()
    assert sum(seconds) == pytest.approx(stats.busy_seconds, rel=1e-9)
    assert min(seconds) > 0
    assert stats.tokens == sum(len(ids) for request in requests for ids in request)
    for result in found:
        assert 0 <= result.usage.device_seconds <= result.usage.compute_seconds
        assert result.usage.queue_seconds >= 0


class Gate:
    """Holds an encoder's steps until it is opened, and notes what was in them."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []
        self.reached = threading.Event()
        self.opened = threading.Event()

    def around(self, model: Any) -> nn.Module:
        return Gated(model, self)

    def hold(self, lengths: list[int]) -> None:
        self.steps.append(lengths)
        self.reached.set()
        self.opened.wait()

    async def await_step(self) -> None:
        """Return once a step is being held."""
        await asyncio.to_thread(self.reached.wait)


class Gated(nn.Module):
    """An encoder behind a gate."""

    def __init__(self, model: Any, gate: Gate) -> None:
        super().__init__()
        self.model = model
        self.encoder = model.encoder
        self.gate = gate

    def forward(self, batch: Any) -> torch.Tensor:
        self.gate.hold(batch.lengths.tolist())
        hidden: torch.Tensor = self.model(batch)
        return hidden


async def test_in_one_step_more_tokens_cost_more(start_encoder: StartEncoder, embedder: Path) -> None:
    gate = Gate()
    engine = start_encoder(embedder, gate.around, step_tokens=400)
    tasks = [asyncio.ensure_future(engine.embed([[7]]))]
    await gate.await_step()
    requests = [
        engine.prepare.embedding(token_ids(seed, *lengths))
        for seed, lengths in enumerate([(5,), (140, 140), (20, 9, 60)])
    ]
    tasks += [asyncio.ensure_future(engine.compute(request)) for request in requests]
    await asyncio.sleep(0)
    gate.opened.set()
    _, few, most, many = [result.usage.device_seconds for result in await asyncio.gather(*tasks)]
    assert len(gate.steps) == 2
    assert most > many > few > 0, "280 tokens cost more than 89, and those more than 5"


async def test_requests_that_arrive_during_a_step_share_the_next(
    start_encoder: StartEncoder, embedder: Path
) -> None:
    gate = Gate()
    engine = start_encoder(embedder, gate.around)
    tasks = [asyncio.ensure_future(engine.embed(token_ids(1, 10)))]
    await gate.await_step()
    requests = [engine.prepare.embedding(token_ids(seed, length)) for seed, length in enumerate((20, 30, 40))]
    tasks += [asyncio.ensure_future(engine.compute(request)) for request in requests]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert gate.steps == [[10], [40, 30, 20]]


async def test_a_tenants_flood_does_not_hold_up_another(start_encoder: StartEncoder, embedder: Path) -> None:
    gate = Gate()
    engine = start_encoder(embedder, gate.around, step_tokens=60)
    flood = engine.prepare.embedding(token_ids(1, *[20] * 12))
    small = engine.prepare.embedding(token_ids(2, 21))
    tasks = [asyncio.ensure_future(engine.compute(flood, tenant="one"))]
    await gate.await_step()
    tasks.append(asyncio.ensure_future(engine.compute(small, tenant="two")))
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert gate.steps[0] == [20, 20, 20]
    assert 21 in gate.steps[1]


async def test_a_cancelled_request_leaves_before_the_next_step(
    start_encoder: StartEncoder, embedder: Path
) -> None:
    gate = Gate()
    engine = start_encoder(embedder, gate.around, step_tokens=60)
    (kept,) = token_ids(3, 25)
    leaving = asyncio.ensure_future(engine.embed(token_ids(2, *[20] * 12)))
    await gate.await_step()
    request = engine.prepare.embedding([kept])
    staying = asyncio.ensure_future(engine.compute(request))
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.opened.set()
    usage = (await staying).usage
    assert leaving.cancelled()
    assert gate.steps == [[20, 20, 20], [25]]
    stats = engine.stats()
    assert stats.operator_seconds > 0
    assert stats.operator_seconds + usage.device_seconds == pytest.approx(stats.busy_seconds, rel=1e-9)


async def test_a_crowd_that_partly_leaves_changes_no_vector(
    start_encoder: StartEncoder, embedder: Path
) -> None:
    engine = start_encoder(embedder, step_tokens=200)
    dice = np.random.default_rng(11)
    requests = [token_ids(seed, *dice.integers(1, 140, dice.integers(1, 6))) for seed in range(30)]
    alone = [(await engine.embed(request)).vectors for request in requests]
    before = engine.stats()
    tasks = [
        asyncio.ensure_future(engine.embed(request, tenant=f"tenant {number % 4}"))
        for number, request in enumerate(requests)
    ]
    for number, task in enumerate(tasks):
        # Each waits for one that has been through, so that leaving happens at any stage.
        if number % 3 == 1:
            await asyncio.wait(tasks[:number], return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    stayed = 0
    charged = 0.0
    for vectors, result in zip(alone, found, strict=True):
        if isinstance(result, Embeddings):
            stayed += 1
            charged += result.usage.device_seconds
            assert relative_error(result.vectors, vectors) < 1e-5
        else:
            assert isinstance(result, asyncio.CancelledError)
    assert 20 <= stayed < 30
    # It goes through after the cancellations before it.
    charged += (await engine.embed(requests[0])).usage.device_seconds
    after = engine.stats()
    left = after.operator_seconds - before.operator_seconds
    assert charged + left == pytest.approx(after.busy_seconds - before.busy_seconds, rel=1e-6)


async def test_what_ended_unread_is_charged_to_nobody(start_encoder: StartEncoder, embedder: Path) -> None:
    gate = Gate()
    engine = start_encoder(embedder, gate.around)
    leaving = asyncio.ensure_future(engine.embed(token_ids(1, 20)))
    await gate.await_step()
    gate.opened.set()
    # The loop is held up until the step is over, so that its result cannot have been delivered.
    while engine.stats().steps == 0:
        os.sched_yield()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    usage = (await engine.embed(token_ids(2, 30))).usage
    stats = engine.stats()
    assert leaving.cancelled()
    assert stats.operator_seconds > 0
    assert stats.operator_seconds + usage.device_seconds == pytest.approx(stats.busy_seconds, rel=1e-9)


async def test_a_result_that_is_no_number_fails_only_its_request(
    start_encoder: StartEncoder, embedder: Path, tmp_path: Path
) -> None:
    gate = Gate()
    engine = start_encoder(
        without_number(tmp_path / "broken", embedder, "embeddings.word_embeddings.weight", token=150),
        gate.around,
    )
    broken = engine.prepare.embedding([[5, 6], [150, 7]])
    sound = engine.prepare.embedding(token_ids(4, 12))
    blocked = asyncio.ensure_future(engine.embed([[8]]))
    await gate.await_step()
    tasks = [asyncio.ensure_future(engine.compute(each)) for each in (broken, sound)]
    await asyncio.sleep(0)
    gate.opened.set()
    failed, vectors = await asyncio.gather(*tasks, return_exceptions=True)
    await blocked
    assert gate.steps[1:] == [[12, 2, 2]]
    assert isinstance(failed, ComputeError)
    assert not isinstance(vectors, BaseException)
    assert np.isfinite(vectors.vectors).all()


async def test_closing_ends_what_waits(embedder: Path) -> None:
    gate = Gate()
    engine = load_engine(embedder, gate.around)
    request = engine.prepare.embedding(token_ids(1, 10))
    with pytest.raises(ClosedError):
        await engine.compute(request)
    engine.start(asyncio.get_running_loop())
    computed = asyncio.ensure_future(engine.compute(request))
    await gate.await_step()
    waiting = asyncio.ensure_future(engine.compute(request))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(asyncio.to_thread(engine.close))
    while not await refuses(engine, request):
        pass
    gate.opened.set()
    await closing
    assert (await computed).vectors.shape == (1, 48)
    with pytest.raises(ClosedError):
        await waiting


async def refuses(engine: EncoderEngine, request: EncoderRequest[Embeddings]) -> bool:
    """Whether the engine takes nothing new."""
    attempt = asyncio.ensure_future(engine.compute(request))
    await asyncio.sleep(0)
    refused = attempt.done()
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)
    return refused


async def test_an_input_over_the_limit_is_refused_with_both_numbers_or_cut(
    start_encoder: StartEncoder, embedder: Path
) -> None:
    engine = start_encoder(embedder)
    assert engine.max_length == 140
    with pytest.raises(RequestError, match=r"Input 1 has 152 tokens; .* 1 to 140\b") as caught:
        await engine.embed(["short", "nine " * 150])
    assert caught.value.param == "input"
    cut = await engine.embed(["nine " * 150, "nine " * 138], truncate=True)
    assert cut.usage.tokens == 280
    assert relative_error(cut.vectors[0], cut.vectors[1]) < 1e-5


@pytest.mark.parametrize(
    ("inputs", "options", "param"),
    [
        ([], {}, "input"),
        ([[]], {}, "input"),
        ([[5, 400]], {}, "input"),
        ([[-1]], {}, "input"),
        (["\ud800"], {}, "input"),
        (["a"], {"dimensions": 0}, "dimensions"),
        (["a"], {"dimensions": 49}, "dimensions"),
        (["a"], {"prompt": "query"}, "prompt"),
    ],
)
async def test_what_does_not_fit_the_model_is_refused(
    start_encoder: StartEncoder, embedder: Path, inputs: Any, options: Any, param: str
) -> None:
    engine = start_encoder(embedder)
    with pytest.raises(RequestError) as caught:
        await engine.embed(inputs, **options)
    assert caught.value.param == param


async def test_other_tasks_than_the_models_are_refused(
    start_encoder: StartEncoder, embedder: Path, classifier: Path
) -> None:
    one, other = start_encoder(embedder), start_encoder(classifier)
    attempts: list[Awaitable[object]] = [
        one.classify(["a"]),
        one.label_tokens(["a"]),
        one.rerank("a", ["b"]),
        other.embed(["a"]),
        other.rerank("a", ["b"]),
    ]
    for attempt in attempts:
        with pytest.raises(RequestError, match="does not") as caught:
            await attempt
        assert caught.value.param == "model"


async def test_fewer_dimensions_are_the_first_scaled_to_length_one(
    start_encoder: StartEncoder, embedder: Path
) -> None:
    engine = start_encoder(embedder)
    texts = ["the ferry leaves", "eins, zwei, drei"]
    whole = (await engine.embed(texts)).vectors
    short = (await engine.embed(texts, dimensions=7)).vectors
    assert short.shape == (2, 7)
    expected = whole[:, :7] / np.linalg.norm(whole[:, :7], axis=1, keepdims=True)
    assert relative_error(short, expected) < 1e-6
