"""From a request to what the encoder computes, and from what it found to the document sent."""

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from farebox.gateway.encoding.requests import (
    ClassifyRequest,
    EmbeddingRequest,
    EncodingRequest,
    RerankRequest,
)
from farebox.gateway.encoding.responses import (
    Classification,
    ClassificationList,
    Embedding,
    EmbeddingList,
    EncodingUsage,
    FoundEntity,
    RankedList,
    RankedResult,
    RankedText,
    ScoredLabel,
)
from farebox.gateway.errors import InvalidParameter
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.models.encoder import (
    Classifications,
    Embeddings,
    EncoderBackend,
    EncoderRequest,
    EncoderUsage,
    Ranking,
    Task,
    Text,
    TokenLabels,
)
from farebox.gateway.models.errors import RequestError

_encode = msgspec.json.Encoder().encode


Found = Embeddings | Ranking | Classifications | TokenLabels
# Of a result and the request's id makes the document that is sent.
Write = Callable[[Any, str], bytes]
Prepared = tuple[EncoderRequest[Any], Write]


@dataclass(frozen=True, slots=True)
class EncodingJob:
    """What to compute, and how its result is written down; `write` blocks for as long as that takes.

    `items` are what is sold by the piece: texts to classify, documents to rerank.
    """

    model: ServedModel
    request: EncoderRequest[Any]
    write: Write
    items: int

    @property
    def prompt_tokens(self) -> int:
        """All tokens that will be computed."""
        return self.request.tokens

    @property
    def max_output_tokens(self) -> int:
        """Encoders write nothing."""
        return 0

    @property
    def expected_output_tokens(self) -> int:
        return 0

    @property
    def least_output_tokens(self) -> int:
        return 0


def make_encoding_job(asked: EncodingRequest, model: ServedModel) -> EncodingJob:
    """Check and tokenise; blocks. Raises InvalidParameter for what does not fit the model."""
    request, write = _prepare(model.encoder, asked)
    items = 0 if isinstance(asked, EmbeddingRequest) else len(asked.texts)
    return EncodingJob(model, request, write, items)


def pieces_of(found: Found) -> int:
    """How many numbers, labels or documents there are to write."""
    match found:
        case Embeddings():
            return found.vectors.size
        case Ranking():
            return len(found.documents)
        case Classifications():
            return sum(map(len, found.labels))
        case TokenLabels():
            return sum(map(len, found.entities))


def _prepare(backend: EncoderBackend, asked: EncodingRequest) -> Prepared:
    try:
        if isinstance(asked, EmbeddingRequest):
            return _embedding(backend, asked)
        if isinstance(asked, RerankRequest):
            return _ranking(backend, asked)
        return _classification(backend, asked)
    except RequestError as error:
        raise InvalidParameter(str(error), error.param) from None


def _embedding(backend: EncoderBackend, asked: EmbeddingRequest) -> Prepared:
    inputs = _inputs(asked.input)
    if not asked.own_token_ids and not all(isinstance(item, str) for item in inputs):
        raise InvalidParameter(
            f"Token ids mean something else to each model. Send `input` as text (LangChain: "
            f"`OpenAIEmbeddings(check_embedding_ctx_length=False)`), or, if these are ids of "
            f"`{asked.model}`, send `own_token_ids: true` too.",
            "input",
        )
    request = backend.prepare.embedding(
        inputs,
        prompt=asked.prompt_name,
        dimensions=asked.dimensions,
        truncate=bool(asked.truncate),
    )

    # What is written needs little of what was asked, and holds no more of it.
    model, in_base64 = asked.model, asked.encoding_format == "base64"

    def write(found: Embeddings, _: str) -> bytes:
        vectors = found.vectors.astype("<f4")
        data: list[msgspec.Raw] | list[str] = (
            [base64.b64encode(vector.tobytes()).decode() for vector in vectors]
            if in_base64
            # One at a time: a call that writes a megabyte of numbers keeps the interpreter to itself.
            else [msgspec.Raw(_encode(vector.tolist())) for vector in vectors]
        )
        items = [Embedding(index, vector) for index, vector in enumerate(data)]  # type: ignore[arg-type]
        return _encode(EmbeddingList(items, model, _usage(found.usage)))

    return request, write


def _ranking(backend: EncoderBackend, asked: RerankRequest) -> Prepared:
    texts = asked.texts
    request = backend.prepare.ranking(asked.query, texts, truncate=bool(asked.truncate))
    model, top, told = asked.model, asked.top_n, texts if asked.return_documents else None

    def write(found: Ranking, request_id: str) -> bytes:
        results = [
            RankedResult(each.index, each.score, RankedText(told[each.index]))
            if told is not None
            else RankedResult(each.index, each.score)
            for each in found.documents[:top]
        ]
        return _encode(RankedList(f"rerank-{request_id}", model, results, _usage(found.usage)))

    return request, write


def _classification(backend: EncoderBackend, asked: ClassifyRequest) -> Prepared:
    request: EncoderRequest[Classifications] | EncoderRequest[TokenLabels]
    model = asked.model
    if backend.task is Task.LABEL_TOKENS:
        request = backend.prepare.token_labels(asked.texts, truncate=bool(asked.truncate))
    else:
        request = backend.prepare.classification(asked.texts, truncate=bool(asked.truncate))

    def write(found: Classifications | TokenLabels, request_id: str) -> bytes:
        data = _labelled(found) if isinstance(found, Classifications) else _with_entities(found)
        answer = ClassificationList(
            f"classify-{request_id}", int(time.time()), model, data, _usage(found.usage)
        )
        return _encode(answer)

    return request, write


def _inputs(given: str | list[str | int | list[int]]) -> Sequence[Text]:
    if isinstance(given, str):
        return [given]
    if all(isinstance(item, int) for item in given):
        return [given]  # type: ignore[list-item]  # just checked
    if any(isinstance(item, int) for item in given):
        raise InvalidParameter("`input` mixes token ids with texts.", "input")
    return given  # type: ignore[return-value]  # just checked


def _labelled(found: Classifications) -> list[Classification]:
    return [
        Classification(index, scores[0].label, [ScoredLabel(score.label, score.score) for score in scores])
        for index, scores in enumerate(found.labels)
    ]


def _with_entities(found: TokenLabels) -> list[Classification]:
    return [
        Classification(
            index,
            entities=[FoundEntity(e.label, e.score, e.start, e.end, e.text) for e in entities],
        )
        for index, entities in enumerate(found.entities)
    ]


def _usage(usage: EncoderUsage) -> EncodingUsage:
    return EncodingUsage(usage.tokens, usage.tokens)
