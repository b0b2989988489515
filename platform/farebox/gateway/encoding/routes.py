"""`/v1`: embeddings, reranking, classification."""

from typing import Annotated

from litestar import post
from litestar.params import Body
from litestar.types import ASGIApp

from farebox.core.http import StrictRequest
from farebox.gateway.encoding import documentation
from farebox.gateway.encoding.requests import ClassifyRequest, EmbeddingRequest, RerankRequest
from farebox.gateway.encoding.run import EncodingAnswer
from farebox.gateway.key_check import claims_of


@post(
    "/embeddings",
    status_code=200,
    operation_id="createEmbedding",
    summary="Turn texts into vectors",
    tags=["Encoders"],
    opt={"documentation": documentation.EMBEDDING},
)
async def create_embedding(request: StrictRequest, data: Annotated[EmbeddingRequest, Body()]) -> ASGIApp:
    """A vector for each text, whose distances tell how near their meanings are."""
    return await EncodingAnswer.prepare(request.app.state.gateway, data, claims_of(request))


@post(
    "/rerank",
    status_code=200,
    operation_id="createRerank",
    summary="Order documents by relevance",
    tags=["Encoders"],
    opt={"documentation": documentation.RERANK},
)
async def create_rerank(request: StrictRequest, data: Annotated[RerankRequest, Body()]) -> ASGIApp:
    """How relevant each document is to a query, the most relevant first."""
    return await EncodingAnswer.prepare(request.app.state.gateway, data, claims_of(request))


@post(
    "/classify",
    status_code=200,
    operation_id="createClassification",
    summary="Label texts, or what is in them",
    tags=["Encoders"],
    opt={"documentation": documentation.CLASSIFICATION},
)
async def create_classification(request: StrictRequest, data: Annotated[ClassifyRequest, Body()]) -> ASGIApp:
    """Labels with their scores; of a model that labels tokens, the stretches of text it found."""
    return await EncodingAnswer.prepare(request.app.state.gateway, data, claims_of(request))
