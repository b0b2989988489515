"""`/v1/models`: what may be called."""

from typing import Literal

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.core.openapi.documentation import Content, Documentation, Reply
from farebox.gateway.documentation import KEY_ERRORS
from farebox.gateway.gateway import Gateway
from farebox.gateway.key_check import claims_of
from farebox.gateway.models.catalog import ServedModel
from farebox.keys.service import Principal, authenticate
from farebox.metering.errors import ModelNotFound


class Model(Struct, frozen=True):
    """A model that may be called."""

    id: str
    created: int
    owned_by: str
    object: Literal["model"] = "model"


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


_MODEL = Model("farebox-demo", 1764086400, "farebox")
_LIST = Documentation(
    replies=[
        Reply(
            description="The models that this key may call.",
            contents=[Content(kind=ModelList, examples={"models": ModelList([_MODEL])})],
        )
    ],
    errors=KEY_ERRORS,
    security="apiKey",
)
_ONE = Documentation(
    values={"model_id": _MODEL.id},
    replies=[Reply(description="The model.", contents=[Content(kind=Model, examples={"model": _MODEL})])],
    errors=(*KEY_ERRORS, ModelNotFound("gpt-7")),
    security="apiKey",
)


@get(
    "/models",
    operation_id="listModels",
    summary="List models",
    tags=["Models"],
    opt={"documentation": _LIST},
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
    opt={"documentation": _ONE},
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
