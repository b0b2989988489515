"""How much one request may ask an encoder's tokenizer to do, judged before any of it is done."""

from farebox.gateway.encoding.requests import EncodingRequest, RerankRequest
from farebox.gateway.errors import TooMuchWork

# Four times a body: a query of a kilobyte fits with as many documents as a request may have.
MAX_PAIR_BYTES = 4_000_000


def check_encoding(request: EncodingRequest) -> None:
    """Raises TooMuchWork where a query times its documents is more than MAX_PAIR_BYTES.

    Inputs of other requests are read once each, so their body bounds them.
    """
    if not isinstance(request, RerankRequest):
        return
    texts = request.texts
    size = len(texts) * len(request.query.encode()) + sum(len(text.encode()) for text in texts)
    if size > MAX_PAIR_BYTES:
        raise TooMuchWork(
            f"The query goes with each of {len(texts)} documents: {size} bytes to read,"
            f" of at most {MAX_PAIR_BYTES}. Shorten the query, or send fewer documents at a time.",
            "query",
        )
