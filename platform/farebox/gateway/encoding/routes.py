"""`/v1`: embeddings, reranking, classification."""

from farebox.gateway.encoding.answer import admit_encoding
from farebox.gateway.encoding.documentation import CLASSIFICATION, EMBEDDING, RERANK
from farebox.gateway.encoding.requests import ClassifyRequest, EmbeddingRequest, RerankRequest
from farebox.gateway.encoding.run import EncodingRun
from farebox.gateway.endpoint import inference
from farebox.gateway.gate.gate import Visit
from farebox.gateway.gateway import Gateway
from farebox.gateway.transport.wire import Wire


@inference(
    "/embeddings",
    EmbeddingRequest,
    operation_id="createEmbedding",
    summary="Turn texts into vectors",
    tag="Encoders",
    documentation=EMBEDDING,
)
async def create_embedding(
    gateway: Gateway, request: EmbeddingRequest, visit: Visit, wire: Wire
) -> EncodingRun:
    """A vector for each text, whose distances tell how near their meanings are."""
    return await admit_encoding(gateway, request, visit, wire)


@inference(
    "/rerank",
    RerankRequest,
    operation_id="createRerank",
    summary="Order documents by relevance",
    tag="Encoders",
    documentation=RERANK,
)
async def create_rerank(gateway: Gateway, request: RerankRequest, visit: Visit, wire: Wire) -> EncodingRun:
    """How relevant each document is to a query, the most relevant first."""
    return await admit_encoding(gateway, request, visit, wire)


@inference(
    "/classify",
    ClassifyRequest,
    operation_id="createClassification",
    summary="Label texts, or what is in them",
    tag="Encoders",
    documentation=CLASSIFICATION,
)
async def create_classification(
    gateway: Gateway, request: ClassifyRequest, visit: Visit, wire: Wire
) -> EncodingRun:
    """Labels with their scores; of a model that labels tokens, the stretches of text it found."""
    return await admit_encoding(gateway, request, visit, wire)
