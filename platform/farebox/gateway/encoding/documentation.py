"""What the encoders' endpoints say of themselves in the API reference."""

from farebox.core.openapi.documentation import Content, Documentation, Reply
from farebox.gateway.documentation import ANSWER_HEADERS, INFERENCE_ERRORS
from farebox.gateway.encoding.bounds import MAX_PAIR_BYTES
from farebox.gateway.encoding.requests import ClassifyRequest, EmbeddingRequest, RerankRequest
from farebox.gateway.encoding.responses import (
    Classification,
    ClassificationList,
    Embedding,
    EmbeddingList,
    EncodingUsage,
    RankedList,
    RankedResult,
    ScoredLabel,
)
from farebox.gateway.errors import InvalidParameter, TooMuchWork

_USAGE = EncodingUsage(9, 9)
_SHARED = {
    "model": "The id of an encoder, as `GET /v1/models` lists it.",
    "truncate": "Cut inputs that are too long, instead of refusing them. Beyond OpenAI's API.",
    "user": "Accepted and ignored: it does not change the result.",
}

EMBEDDING = Documentation(
    body=EmbeddingRequest,
    fields=_SHARED
    | {
        "input": "A text, several texts, token ids of this model, or several lists of token ids. "
        "Ids go with `own_token_ids` only.",
        "own_token_ids": "True: ids in `input` are of this model's tokenizer. Beyond OpenAI's API.",
        "encoding_format": "`float` (the default), or `base64` for the vectors' little-endian float32 bytes.",
        "dimensions": "Keep only so many of each vector's first numbers, scaled to length 1.",
        "prompt_name": "Which of the model's prompts to put before each text. Beyond OpenAI's API.",
    },
    request={
        "a text": {"model": "my-encoder", "input": "The ferry leaves at nine."},
        "several": {"model": "my-encoder", "input": ["a ferry", "a tram"], "encoding_format": "base64"},
    },
    replies=[
        Reply(
            description="The vectors, in the order of the inputs.",
            headers=ANSWER_HEADERS,
            contents=[
                Content(
                    kind=EmbeddingList,
                    examples={
                        "one": EmbeddingList([Embedding(0, [0.013, -0.072, 0.038])], "my-encoder", _USAGE)
                    },
                )
            ],
        )
    ],
    errors=(*INFERENCE_ERRORS, InvalidParameter("`input` mixes token ids with texts.", "input")),
    security="apiKey",
)

RERANK = Documentation(
    body=RerankRequest,
    fields=_SHARED
    | {
        "query": "What is looked for.",
        "documents": "Texts, or objects with a `text`.",
        "top_n": "Answer with so many of the most relevant; all are computed and billed.",
        "return_documents": "Repeat each document's text in the answer.",
    },
    request={
        "two documents": {
            "model": "my-reranker",
            "query": "When does the ferry leave?",
            "documents": ["The ferry leaves at nine.", "A tram is a train in a street."],
        }
    },
    replies=[
        Reply(
            description="The documents, the most relevant first.",
            headers=ANSWER_HEADERS,
            contents=[
                Content(
                    kind=RankedList,
                    examples={
                        "two": RankedList(
                            "rerank-0199d3f04a7c7b52a6e1c4d2f8b09a31",
                            "my-reranker",
                            [RankedResult(0, 0.98), RankedResult(1, 0.03)],
                            _USAGE,
                        )
                    },
                )
            ],
        )
    ],
    errors=(
        *INFERENCE_ERRORS,
        InvalidParameter("This model does not rerank; use a cross-encoder with one label.", "model"),
        TooMuchWork(
            "The query goes with each of 2048 documents: 4194304 bytes to read, of at most "
            f"{MAX_PAIR_BYTES}. Shorten the query, or send fewer documents at a time.",
            "query",
        ),
    ),
    security="apiKey",
)

CLASSIFICATION = Documentation(
    body=ClassifyRequest,
    fields=_SHARED | {"input": "A text, or several."},
    request={"a review": {"model": "my-classifier", "input": "A film to fall asleep in."}},
    replies=[
        Reply(
            description="What was found in each input.",
            headers=ANSWER_HEADERS,
            contents=[
                Content(
                    kind=ClassificationList,
                    examples={
                        "one": ClassificationList(
                            "classify-0199d3f04a7c7b52a6e1c4d2f8b09a31",
                            1764086400,
                            "my-classifier",
                            [
                                Classification(
                                    0,
                                    "negative",
                                    [ScoredLabel("negative", 0.94), ScoredLabel("positive", 0.06)],
                                )
                            ],
                            _USAGE,
                        )
                    },
                )
            ],
        )
    ],
    errors=(
        *INFERENCE_ERRORS,
        InvalidParameter("This model does not classify; its task is embedding.", "model"),
    ),
    security="apiKey",
)
