"""Encoders: embeddings, classification of texts and of tokens, reranking.

engine = EncoderEngine.load("path/to/checkpoint")       # LoadError says what is wrong, in one sentence
engine.start(asyncio.get_running_loop())

engine.task                                             # Task.EMBED, CLASSIFY or LABEL_TOKENS
found = await engine.embed(["a text", "another"])       # found.vectors fp32 [2, engine.dimensions]
found = await engine.embed(["a question"], prompt="query", dimensions=256, truncate=True)
found = await engine.classify(["a text"])               # found.labels[0][0].label, .score
found = await engine.label_tokens(["a text"])           # found.entities[0][0].label, .start, .end
found = await engine.rerank("a query", ["a document"])  # engine.reranks; found.documents[0].index, .score
found.usage.tokens, found.usage.device_seconds

To know the tokens before they are computed, as for admission, take the two halves apart:

request = await asyncio.to_thread(engine.prepare.embedding, ["a text"])  # RequestError names the field
request.tokens
found = await engine.compute(request, tenant="org_1")   # ComputeError; cancelling takes it out

`is_encoder(config_json)` tells a folder with an encoder from one for `farebox_engine.Engine`.
"""

from farebox_engine.encoders.engine import EncoderEngine
from farebox_engine.encoders.loader import is_encoder, load_encoder
from farebox_engine.encoders.models.config import Task
from farebox_engine.encoders.outputs import (
    Classifications,
    Embeddings,
    EncoderStats,
    EncoderUsage,
    Entity,
    LabelScore,
    RankedDocument,
    Ranking,
    TokenLabels,
)
from farebox_engine.encoders.preparing import EncoderRequest

__all__ = [
    "Classifications",
    "Embeddings",
    "EncoderEngine",
    "EncoderRequest",
    "EncoderStats",
    "EncoderUsage",
    "Entity",
    "LabelScore",
    "RankedDocument",
    "Ranking",
    "Task",
    "TokenLabels",
    "is_encoder",
    "load_encoder",
]
