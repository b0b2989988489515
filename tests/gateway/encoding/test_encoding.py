"""Embeddings, reranking, classification and encoder-decoders through the gateway, metered like all else."""

import asyncio
import base64
import gc
import threading
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import openai
import pytest
import torch
from openai import AsyncOpenAI
from safetensors.torch import load_file, save_file
from sqlalchemy import text

from farebox.core.database import Database
from farebox.gateway.encoding.jobs import make_encoding_job
from farebox.gateway.encoding.requests import (
    ClassifyRequest,
    EmbeddingRequest,
    EncodingRequest,
    RerankRequest,
)
from farebox_engine.encoders import EncoderEngine
from tests.engine.encoders.checkpoints import build_encoder
from tests.engine.seq2seq.checkpoints import build_seq2seq
from tests.gateway.conftest import offer
from tests.gateway.servers import RunningServer
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS

TEXTS = ["The ferry leaves at nine.", "A token is a piece of a word.", "Nine."]
HEADS = {
    "embedder": ("Model", {}),
    "classifier": ("ForSequenceClassification", {"num_labels": 3}),
    "reranker": ("ForSequenceClassification", {"num_labels": 1}),
    "tagger": ("ForTokenClassification", {"num_labels": 4}),
}


@pytest.fixture(scope="session")
async def folders(
    server: RunningServer, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """An encoder of each kind, one that fails over token 60, and an encoder-decoder, on offer by name."""
    root = tmp_path_factory.mktemp("encoders")
    made = {
        name: build_encoder(root / name, "Bert", head, **overrides)
        for name, (head, overrides) in HEADS.items()
    }
    made["broken"] = build_encoder(root / "broken", "Bert")
    tensors = load_file(made["broken"] / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][60] = torch.nan
    save_file(tensors, made["broken"] / "model.safetensors", metadata={"format": "pt"})
    made["translator"] = build_seq2seq(root / "translator", "marian")
    for name, folder in made.items():
        await offer(database, name, folder)
    await server.call(server.gateway.catalog.refresh)
    assert server.gateway.catalog.failures.keys().isdisjoint(made)
    return made


async def vectors(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """What the engine itself says."""
    engine = EncoderEngine.load(folder)
    engine.start(asyncio.get_running_loop())
    found = await engine.embed(texts)
    engine.close()
    return found.vectors


async def test_embeddings_are_the_engines_and_are_billed_by_the_token(
    client: AsyncOpenAI, folders: dict[str, Path], database: Database, tenant: Tenant
) -> None:
    answer = await client.embeddings.create(model="embedder", input=TEXTS)
    expected = await vectors(folders["embedder"], TEXTS)
    np.testing.assert_allclose([item.embedding for item in answer.data], expected, rtol=1e-4, atol=1e-5)
    assert [item.index for item in answer.data] == [0, 1, 2]
    (event,) = (await read_books(database, tenant.organization_id)).events
    assert (event.input_tokens, event.output_tokens) == (answer.usage.prompt_tokens, 0)
    assert event.amount == answer.usage.prompt_tokens * Decimal("0.000001")
    assert event.device_seconds is not None
    assert not (await read_books(database, tenant.organization_id)).holds


async def test_a_request_that_the_model_fails_costs_nothing_and_is_counted(
    http: httpx.AsyncClient, folders: dict[str, Path], database: Database, tenant: Tenant
) -> None:
    assert "broken" in folders
    answer = await http.post(
        "/v1/embeddings", json={"model": "broken", "input": [[2, 50, 3], [2, 60, 3]], "own_token_ids": True}
    )
    assert answer.status_code == 500
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds
    counted = (await http.get("/metrics")).text
    assert 'farebox_engine_restarts_total{model="broken"} 0.0' in counted
    assert 'farebox_engine_failed_steps_total{model="broken"} 0.0' in counted
    wasted = next(line for line in counted.splitlines() if 'operator_seconds_total{model="broken"}' in line)
    assert float(wasted.split()[-1]) > 0


@pytest.mark.usefixtures("folders")
async def test_formats_of_embeddings(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    plain = await client.embeddings.create(model="embedder", input=TEXTS[0], encoding_format="float")
    raw = await http.post(
        "/v1/embeddings", json={"model": "embedder", "input": TEXTS[0], "encoding_format": "base64"}
    )
    packed = np.frombuffer(base64.b64decode(raw.json()["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(packed, plain.data[0].embedding, rtol=1e-6)
    short = await client.embeddings.create(model="embedder", input=TEXTS[0], dimensions=8)
    assert len(short.data[0].embedding) == 8
    assert np.linalg.norm(short.data[0].embedding) == pytest.approx(1)
    ids = await client.embeddings.create(
        model="embedder", input=[[2, 50, 60, 3], [2, 9, 3]], extra_body={"own_token_ids": True}
    )
    assert ids.usage.prompt_tokens == 7


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("embeddings", {"model": "embedder", "input": TEXTS}),
        ("rerank", {"model": "reranker", "query": "When?", "documents": TEXTS}),
        ("classify", {"model": "classifier", "input": TEXTS}),
        ("classify", {"model": "tagger", "input": TEXTS}),
    ],
)
async def test_a_small_answer_waits_for_no_thread(
    path: str, body: Any, server: RunningServer, http: httpx.AsyncClient, tenant: Tenant
) -> None:
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go.wait(WAIT_SECONDS)

    writers = server.gateway.writers
    writing = asyncio.create_task(server.call(lambda: writers.run(tenant.organization_id, hold)))
    try:
        assert await asyncio.to_thread(begun.wait, WAIT_SECONDS)
        answer = await http.post(f"/v1/{path}", json=body)
    finally:
        go.set()
        await writing
    assert answer.status_code == 200


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("model", "kind", "fields"),
    [
        ("embedder", EmbeddingRequest, {"input": TEXTS}),
        ("reranker", RerankRequest, {"query": "When?", "documents": TEXTS, "return_documents": True}),
        ("classifier", ClassifyRequest, {"input": TEXTS}),
        ("tagger", ClassifyRequest, {"input": TEXTS}),
    ],
)
def test_what_is_computed_holds_nothing_of_the_request(
    model: str, kind: type[EncodingRequest], fields: dict[str, Any], server: RunningServer
) -> None:
    asked = msgspec.convert({"model": model, **fields}, type=kind)
    job = make_encoding_job(asked, server.gateway.catalog.get(model))
    held = gc.get_referrers(asked)
    assert not any(isinstance(each, types.CellType) for each in held), job


@pytest.mark.usefixtures("folders")
async def test_reranking_orders_the_documents(http: httpx.AsyncClient) -> None:
    body = {"model": "reranker", "query": "When?", "documents": [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]]}
    every = (await http.post("/v1/rerank", json=body)).json()
    scores = [result["relevance_score"] for result in every["results"]]
    assert scores == sorted(scores, reverse=True)
    assert {result["index"] for result in every["results"]} == {0, 1, 2}
    best = (await http.post("/v1/rerank", json=body | {"top_n": 1, "return_documents": True})).json()
    index = every["results"][0]["index"]
    assert best["results"] == [
        {"index": index, "relevance_score": scores[0], "document": {"text": TEXTS[index]}}
    ]
    assert best["usage"] == every["usage"], "all documents were computed"


@pytest.mark.usefixtures("folders")
async def test_classification_of_texts_and_of_what_is_in_them(http: httpx.AsyncClient) -> None:
    texts = (await http.post("/v1/classify", json={"model": "classifier", "input": TEXTS})).json()
    for item in texts["data"]:
        assert {score["label"] for score in item["scores"]} == {"LABEL_0", "LABEL_1", "LABEL_2"}
        assert sum(score["score"] for score in item["scores"]) == pytest.approx(1)
        assert item["label"] == item["scores"][0]["label"]
    tokens = (await http.post("/v1/classify", json={"model": "tagger", "input": TEXTS[0]})).json()
    entities = tokens["data"][0]["entities"]
    assert entities
    assert all(TEXTS[0][each["start"] : each["end"]] == each["text"] for each in entities)


async def test_an_encoder_decoder_answers_completions(
    client: AsyncOpenAI, folders: dict[str, Path], database: Database, tenant: Tenant
) -> None:
    whole = await client.completions.create(model="translator", prompt="The ferry leaves.", max_tokens=12)
    stream = await client.completions.create(
        model="translator", prompt="The ferry leaves.", max_tokens=12, stream=True
    )
    streamed = "".join([event.choices[0].text async for event in stream])
    assert streamed == whole.choices[0].text
    beams = await client.completions.create(
        model="translator", prompt="The ferry leaves.", max_tokens=12, extra_body={"num_beams": 3}
    )
    assert beams.choices[0].finish_reason in {"stop", "length"}
    patient = await client.completions.create(
        model="translator", prompt="The ferry leaves.", max_tokens=12, extra_body={"priority": 1}
    )
    assert patient.choices[0].text == whole.choices[0].text
    assert whole.usage is not None
    events = (await read_books(database, tenant.organization_id)).events
    assert {event.input_tokens for event in events} == {whole.usage.prompt_tokens}
    assert len(events) == 4


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("embeddings", {"model": "tiny", "input": "a"}, "is no encoder"),
        ("embeddings", {"model": "classifier", "input": "a"}, "does not embed"),
        ("embeddings", {"model": "embedder", "input": []}, "input"),
        ("embeddings", {"model": "embedder", "input": ["a", 5]}, "mixes"),
        ("embeddings", {"model": "embedder", "input": [5, 10**6], "own_token_ids": True}, "token id"),
        ("embeddings", {"model": "embedder", "input": [5, 9]}, "check_embedding_ctx_length=False"),
        ("embeddings", {"model": "embedder", "input": "nine " * 200}, "takes from 1 to 140"),
        ("embeddings", {"model": "embedder", "input": "a", "dimensions": 1000}, "dimensions is 1000"),
        ("embeddings", {"model": "embedder", "input": "a", "prompt_name": "query"}, "no prompt"),
        ("rerank", {"model": "classifier", "query": "a", "documents": ["b"]}, "does not rerank"),
        ("classify", {"model": "embedder", "input": "a"}, "does not classify"),
        ("completions", {"model": "embedder", "prompt": "a"}, "use /v1/embeddings"),
        ("completions", {"model": "translator", "prompt": "a", "echo": True, "max_tokens": 0}, "no echo"),
        ("completions", {"model": "translator", "prompt": "a", "min_tokens": 5}, "no min_tokens"),
        ("completions", {"model": "translator", "prompt": "a", "bad_words": ["b"]}, "no bad_words"),
        ("completions", {"model": "reranker", "prompt": "a"}, "use /v1/rerank"),
        (
            "completions",
            {"model": "tiny", "prompt": "a", "num_beams": 2, "temperature": 0, "max_tokens": 5},
            "no beam search",
        ),
    ],
)
async def test_what_a_model_cannot_do_is_a_400_that_says_so(
    http: httpx.AsyncClient, database: Database, tenant: Tenant, path: str, body: Any, reason: str
) -> None:
    answer = await http.post(f"/v1/{path}", json=body)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["error"]["message"]
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


async def test_too_long_an_input_is_cut_when_asked(client: AsyncOpenAI, folders: dict[str, Path]) -> None:
    answer = await client.embeddings.create(
        model="embedder", input="nine " * 500, extra_body={"truncate": True}
    )
    assert answer.usage.prompt_tokens == EncoderEngine.load(folders["embedder"]).max_length


@pytest.mark.usefixtures("folders")
async def test_without_a_balance_there_is_no_vector(
    client: AsyncOpenAI, database: Database, tenant: Tenant
) -> None:
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE meter_scope SET balance = 0 WHERE id = :id"),
            {"id": tenant.organization_id},
        )
    with pytest.raises(openai.APIStatusError) as refused:
        await client.embeddings.create(model="embedder", input=TEXTS)
    assert refused.value.status_code == 402
