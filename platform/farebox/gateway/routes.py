"""`/v1`: everything that is called with an API key for inference."""

from litestar import Router

from farebox.gateway.completions.routes import create_chat_completion, create_completion
from farebox.gateway.encoding.routes import create_classification, create_embedding, create_rerank
from farebox.gateway.key_check import require_key
from farebox.gateway.model_routes import list_models, retrieve_model

router = Router(
    path="/v1",
    before_request=require_key,
    route_handlers=[
        create_chat_completion,
        create_completion,
        create_embedding,
        create_rerank,
        create_classification,
        list_models,
        retrieve_model,
    ],
)
