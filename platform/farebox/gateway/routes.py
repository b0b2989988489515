"""`/v1`: models, chat completions, completions, and what `encoding` adds."""

from typing import Annotated

from litestar import Router, get, post
from litestar.di import NamedDependency
from litestar.params import Body, FromPath
from litestar.types import ASGIApp

from farebox.core.database import Database
from farebox.core.http import StrictRequest
from farebox.gateway.catalog import ServedModel
from farebox.gateway.documentation import CHAT_COMPLETION, COMPLETION, MODEL, MODELS
from farebox.gateway.encoding.routes import create_classification, create_embedding, create_rerank
from farebox.gateway.key_check import claims_of, verify_key
from farebox.gateway.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.responses import Model, ModelList
from farebox.gateway.service import Answer, Gateway
from farebox.gateway.writers import ChatWriter, CompletionWriter
from farebox.keys.service import Principal, authenticate
from farebox.metering.errors import ModelNotFound


@post(
    "/chat/completions",
    status_code=200,
    operation_id="createChatCompletion",
    summary="Create a chat completion",
    tags=["Chat"],
    opt={"documentation": CHAT_COMPLETION},
)
async def create_chat_completion(
    request: StrictRequest, data: Annotated[ChatCompletionRequest, Body()]
) -> ASGIApp:
    """Answer a conversation, whole or as server-sent events (`stream: true`)."""
    gateway: Gateway = request.app.state.gateway
    claims = claims_of(request)
    return Answer(gateway, await gateway.prepare(data, claims), claims, ChatWriter)


@post(
    "/completions",
    status_code=200,
    operation_id="createCompletion",
    summary="Create a completion",
    tags=["Completions"],
    opt={"documentation": COMPLETION},
)
async def create_completion(request: StrictRequest, data: Annotated[CompletionRequest, Body()]) -> ASGIApp:
    """Continue a text, several, or token ids."""
    gateway: Gateway = request.app.state.gateway
    claims = claims_of(request)
    return Answer(gateway, await gateway.prepare(data, claims), claims, CompletionWriter)


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
    before_request=verify_key,
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
