"""`/v1`: models, chat completions, completions."""

from typing import Annotated, Any

from litestar import Request, Router, get, post
from litestar.di import NamedDependency
from litestar.params import Body, FromPath
from litestar.types import ASGIApp

from farebox.core.database import Database
from farebox.core.http import StrictRequest
from farebox.gateway.catalog import ServedModel
from farebox.gateway.documentation import CHAT_COMPLETION, COMPLETION, MODEL, MODELS
from farebox.gateway.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.responses import Model, ModelList
from farebox.gateway.service import Answer, Gateway
from farebox.gateway.writers import ChatWriter, CompletionWriter
from farebox.keys.dependencies import bearer_token
from farebox.keys.service import Principal, authenticate
from farebox.keys.tokens import KeyClaims, Keyring
from farebox.metering.errors import ModelNotFound


async def verify_key(request: Request[Any, Any, Any]) -> None:
    """Before anything of the body is read: the token must be one of ours.

    Whether its row still opens anything is for admission, or `authenticate`, to say. Not a guard:
    Litestar copies the connection for those.
    """
    token = next((value for name, value in request.scope["headers"] if name == b"authorization"), b"")
    keyring: Keyring = request.app.state.keyring
    request.scope["state"]["claims"] = await keyring.resolve(bearer_token(token.decode("latin-1")))


def claims_of(request: StrictRequest) -> KeyClaims:
    """What `verify_key` found."""
    claims: KeyClaims = request.scope["state"]["claims"]
    return claims


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
    route_handlers=[create_chat_completion, create_completion, list_models, retrieve_model],
)
