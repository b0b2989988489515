"""Request bodies of the encoders' endpoints, in the shapes of OpenAI, Jina and vLLM."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from farebox.gateway.fields import ModelName, TokenId

MAX_INPUTS = 2048

Input = Annotated[str, Meta(min_length=1)]
TokenIds = Annotated[list[TokenId], Meta(min_length=1)]


class EmbeddingRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/embeddings`. `prompt_name`, `truncate` and `own_token_ids` are Farebox's additions.

    Clients tokenise by themselves with OpenAI's tokenizer, whose ids mean something else to any other
    model: ids are taken only with `own_token_ids`, which says that they are this model's.
    """

    model: ModelName
    input: Input | Annotated[list[Input | TokenId | TokenIds], Meta(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    prompt_name: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    truncate: bool | None = None
    own_token_ids: bool | None = None
    user: str | None = None


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    text: Input


class RerankRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/rerank`, in Jina's and Cohere's shape."""

    model: ModelName
    query: Input
    documents: Annotated[list[Input | Document], Meta(min_length=1, max_length=MAX_INPUTS)]
    top_n: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    return_documents: bool | None = None
    truncate: bool | None = None
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [item if isinstance(item, str) else item.text for item in self.documents]


class ClassifyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/classify`, in vLLM's shape."""

    model: ModelName
    input: Input | Annotated[list[Input], Meta(min_length=1, max_length=MAX_INPUTS)]
    truncate: bool | None = None
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        """One text or several, as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


EncodingRequest = EmbeddingRequest | RerankRequest | ClassifyRequest
