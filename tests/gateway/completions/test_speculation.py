"""Guessed tokens: told per request and per model, switched off by a setting, and never billed when wrong."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from openai.types import CompletionUsage
from prometheus_client.parser import text_string_to_metric_families

from farebox.billing.models import ModelOffer
from farebox.core.database import Database
from farebox.gateway.models.local import LocalBackend, local_backends
from farebox_engine.params import GenerationRequest, SamplingParams
from tests.engine.checkpoints import build_parrot
from tests.gateway.conftest import CONTEXT_LENGTH, offer
from tests.gateway.servers import RunningServer, make_settings
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

CIRCLES = [*range(10, 15), *range(10, 15), 10, 11]
ASKED: dict[str, Any] = {"model": "parrot", "prompt": CIRCLES, "max_tokens": 60, "temperature": 0.6}
COUNTER = re.compile("farebox_engine_(?P<field>.*_tokens)_total")
DEAF = {"ignore_eos": True}


@pytest.fixture(scope="session")
def parrot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parrot") / "llama"
    return build_parrot(folder, max_position_embeddings=CONTEXT_LENGTH)


@pytest.fixture(scope="session")
async def parrot(server: RunningServer, database: Database, parrot_folder: Path) -> None:
    await offer(database, "parrot", parrot_folder)
    await server.call(server.gateway.catalog.refresh)


async def counted(http: httpx.AsyncClient) -> dict[str, float]:
    """The counters of the parrot's drafts, by their names in EngineStats."""
    text = (await http.get("/metrics")).text
    return {
        found["field"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == "parrot" and (found := COUNTER.fullmatch(sample.name))
    }


def predicted(usage: CompletionUsage | None) -> tuple[int, int]:
    """The tokens that were guessed rightly and wrongly."""
    assert usage is not None
    details = usage.completion_tokens_details
    assert details is not None
    return details.accepted_prediction_tokens or 0, details.rejected_prediction_tokens or 0


@pytest.mark.usefixtures("parrot")
async def test_wrong_guesses_are_told_and_not_billed(
    client: AsyncOpenAI, http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    before = await counted(http)
    answers = [
        await client.completions.create(**ASKED, seed=seed, n=2, logprobs=0, extra_body=DEAF)
        for seed in (1, 3)
    ]
    after = await counted(http)
    accepted, rejected = map(sum, zip(*(predicted(answer.usage) for answer in answers), strict=True))
    assert accepted > 0
    assert rejected > 0
    grown = {name: after[name] - before[name] for name in after}
    assert grown["draft_tokens"] == accepted + rejected
    assert grown["accepted_draft_tokens"] == accepted
    assert grown["discarded_tokens"] == rejected
    for answer in answers:
        said = [len(choice.logprobs.tokens or ()) for choice in answer.choices if choice.logprobs]
        assert said == [60, 60]
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 120
    events = (await read_books(database, tenant.organization_id)).events
    assert [event.output_tokens for event in events] == [120, 120]
    for event in events:
        millionths = event.input_tokens + Decimal("0.5") * event.cached_input_tokens + 2 * 120
        assert event.amount == millionths / 1_000_000


@pytest.mark.usefixtures("parrot")
async def test_a_streams_last_event_tells_them_too(client: AsyncOpenAI) -> None:
    whole = await client.completions.create(**ASKED, seed=1, extra_body=DEAF)
    stream = await client.completions.create(
        **ASKED, seed=1, stream=True, stream_options={"include_usage": True}, extra_body=DEAF
    )
    events = [event async for event in stream]
    assert predicted(events[-1].usage) == predicted(whole.usage)
    assert predicted(whole.usage)[0] > 0
    assert "".join(event.choices[0].text for event in events if event.choices) == whole.choices[0].text


@pytest.mark.parametrize("most", [0, 2])
async def test_a_setting_bounds_the_guesses(parrot_folder: Path, tmp_path: Path, most: int) -> None:
    settings = make_settings(tmp_path, engine_speculative_tokens=most)
    backend = local_backends(settings)(ModelOffer(id="parrot", path=str(parrot_folder)))
    assert isinstance(backend, LocalBackend)
    backend.start()
    params = SamplingParams(max_tokens=31, temperature=0, ignore_eos=True)
    [*_, last] = [chunk async for chunk in backend.generate(GenerationRequest("request", CIRCLES, params))]
    stats = backend.stats()
    await backend.close()
    assert last.usage is not None
    assert last.usage.completion_tokens == 31
    assert (stats.draft_tokens > 0) == (most > 0)
    # The prompt's step brings one token, each other at most the guesses and one more.
    assert stats.steps >= 1 + 30 / (most + 1)
