"""`/v1/models`: what may be called."""

from decimal import Decimal
from typing import Literal

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from msgspec import Struct

from farebox.billing.prices import terms_for
from farebox.billing.terms import Terms
from farebox.billing.tiers import Scheme, TokenClass
from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.core.money import plain
from farebox.core.openapi.documentation import Content, Documentation, Reply
from farebox.gateway.documentation import KEY_ERRORS
from farebox.gateway.gateway import Gateway
from farebox.gateway.key_check import claims_of
from farebox.gateway.models.catalog import Kind, ServedModel
from farebox.keys.service import Principal, authenticate
from farebox.metering.errors import ModelNotFound


class ModelTier(Struct, frozen=True):
    """What a million tokens of a class cost beyond the first `starts_at` of a month."""

    token_class: TokenClass
    starts_at: int
    per_million: str


class ModelPrice(Struct, frozen=True):
    """What a million tokens of each class cost now, as decimal strings; `item_per_million` is for classified
    texts and reranked documents.

    With tiers these are the dearest, and `tiers` says from how many tokens of a class in a month on which
    holds. By the package, a package that is begun is paid.
    """

    input_per_million: str
    cached_input_per_million: str
    output_per_million: str
    currency: str
    item_per_million: str = "0.00"
    scheme: Scheme = "flat"
    package_tokens: int | None = None
    tiers: list[ModelTier] = []


class Model(Struct, frozen=True):
    """A model that may be called. `kind`, `context_length` and `price` are this server's own fields."""

    id: str
    created: int
    owned_by: str
    kind: Kind
    context_length: int
    price: ModelPrice | None
    object: Literal["model"] = "model"


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


_MODEL = Model(
    "farebox-demo", 1764086400, "farebox", "generation", 512, ModelPrice("0.50", "0.25", "1.50", "USD")
)
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
    prices = await _prices(database, principal)
    return ModelList(
        [
            _model(served, prices.get(served.id))
            for served in gateway.catalog.all()
            if _may_call(principal, served.id)
        ]
    )


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
    if not _may_call(principal, model_id):
        raise ModelNotFound(model_id)
    served = gateway.catalog.get(model_id)
    return _model(served, (await _prices(database, principal)).get(model_id))


async def _prices(database: Database, principal: Principal) -> dict[str, Terms]:
    """What models cost now, by id. Read as keys are: reports may have all other connections."""
    async with database.transaction(organization_id=principal.organization_id, way="key") as session:
        return await terms_for(session, principal.organization_id)


def _may_call(principal: Principal, model_id: str) -> bool:
    return principal.models is None or model_id in principal.models


def _model(served: ServedModel, price: Terms | None) -> Model:
    return Model(
        id=served.id,
        created=served.created,
        owned_by=served.owned_by,
        kind=served.kind,
        context_length=served.backend.context_length,
        price=_price(price) if price else None,
    )


def _price(terms: Terms) -> ModelPrice:
    def told(amount: Decimal) -> str:
        return plain(amount, terms.currency)

    return ModelPrice(
        input_per_million=told(terms.dearest("input")),
        cached_input_per_million=told(terms.dearest("cached_input")),
        output_per_million=told(terms.dearest("output")),
        currency=terms.currency,
        item_per_million=told(terms.item_per_million),
        scheme=terms.scheme,
        package_tokens=terms.tariffs["input"].package_tokens,
        tiers=[
            ModelTier(name, tier.starts_at, told(tier.per_million))
            for name, tariff in terms.tariffs.items()
            for tier in tariff.tiers
            if len(tariff.tiers) > 1
        ],
    )
