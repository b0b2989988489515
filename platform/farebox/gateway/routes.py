"""`/v1`: models, chat completions, completions, and what `encoding` adds."""

from litestar import Router, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.gateway.completions.documentation import CHAT_COMPLETION, COMPLETION, MODEL, MODELS
from farebox.gateway.completions.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.completions.responses import Model, ModelList
from farebox.gateway.completions.writers import ChatWriter, CompletionWriter
from farebox.gateway.encoding.routes import create_classification, create_embedding, create_rerank
from farebox.gateway.endpoint import inference
from farebox.gateway.gateway import Gateway
from farebox.gateway.key_check import claims_of, require_key
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.transport.wire import Wire
from farebox.keys.service import Principal, authenticate
from farebox.keys.tokens import KeyClaims
from farebox.metering.errors import ModelNotFound


@inference(
    "/chat/completions",
    ChatCompletionRequest,
    operation_id="createChatCompletion",
    summary="Create a chat completion",
    tag="Chat",
    documentation=CHAT_COMPLETION,
)
async def create_chat_completion(
    gateway: Gateway, request: ChatCompletionRequest, claims: KeyClaims, wire: Wire
) -> None:
    """Answer a conversation, whole or as server-sent events (`stream: true`)."""
    await gateway.answer(request, claims, wire, ChatWriter)


@inference(
    "/completions",
    CompletionRequest,
    operation_id="createCompletion",
    summary="Create a completion",
    tag="Completions",
    documentation=COMPLETION,
)
async def create_completion(
    gateway: Gateway, request: CompletionRequest, claims: KeyClaims, wire: Wire
) -> None:
    """Continue a text, several, or token ids."""
    await gateway.answer(request, claims, wire, CompletionWriter)


@get(
    "/models",
    operation_id="listModels",
    summary="List models",
    tags=["Models"],
    opt={"documentation": MODELS},
)
async def list_models(request: StrictRequest, database: NamedDependency[Database]) -> ModelList:
    """The models that this key may call."""
    principal = await authenticate(database, claims_of(request))
    gateway: Gateway = request.app.state.gateway
    return ModelList([_model(served) for served in gateway.catalog.all() if _may_call(principal, served.id)])


@get(
    "/models/{model_id:path}",
    operation_id="retrieveModel",
    summary="Retrieve a model",
    tags=["Models"],
    opt={"documentation": MODEL},
)
async def retrieve_model(
    request: StrictRequest, database: NamedDependency[Database], model_id: FromPath[str]
) -> Model:
    """One model. Absent and not allowed look alike."""
    principal = await authenticate(database, claims_of(request))
    gateway: Gateway = request.app.state.gateway
    model_id = model_id.removeprefix("/")
    served = gateway.catalog.find(model_id)
    if served is None or not _may_call(principal, model_id):
        raise ModelNotFound(model_id)
    return _model(served)


def _may_call(principal: Principal, model_id: str) -> bool:
    return principal.models is None or model_id in principal.models


def _model(served: ServedModel) -> Model:
    return Model(id=served.id, created=served.created, owned_by=served.owned_by)


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
