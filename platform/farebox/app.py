"""The application: every part opened, wired to the routes, and closed in order. Composition only."""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException

from farebox.auth import routes as auth
from farebox.auth.documentation import session_cookie
from farebox.auth.passwords import PasswordHasher
from farebox.billing.exports import routes as exports
from farebox.billing.invoices import routes as invoices
from farebox.billing.proofs import routes as proofs
from farebox.billing.stripe.account import Account
from farebox.billing.stripe.api import routes as payments
from farebox.billing.stripe.events import routes as webhooks
from farebox.core.bodies import MAX_BODY_BYTES, StrictRequest
from farebox.core.database import Database
from farebox.core.error_answers import error_response
from farebox.core.errors import FareboxError
from farebox.core.exchange import Application
from farebox.core.fair_threads import FairThreads
from farebox.core.settings import Settings
from farebox.core.shares import Shares
from farebox.dashboard import routes as dashboard
from farebox.dashboard.errors import answer_error
from farebox.gateway import routes as inference
from farebox.gateway.gate.gate import Gate
from farebox.gateway.gateway import Gateway
from farebox.gateway.live_runs import Runs
from farebox.gateway.models.catalog import BackendFactory, Catalog
from farebox.gateway.models.local import local_backends
from farebox.gateway.operations import api_document, health, metrics
from farebox.keys import routes as keys
from farebox.keys.documentation import API_KEY
from farebox.keys.receipt_keys import ReceiptKeys
from farebox.keys.tokens import Keyring
from farebox.metering.meter import Meter
from farebox.usage import routes as usage

# A model thread and the event loop share the interpreter: switching ten times as often as usual costs
# the one little and spares the other waiting.
SWITCH_SECONDS = 0.0005

# A request under way holds some fifty objects that the collector counts: fifteen that come at once reach
# its usual 700, with nothing to collect, which took 6 % of the server's time.
COLLECT_AFTER_OBJECTS = 20_000

PROVIDED = (
    "settings",
    "database",
    "keyring",
    "receipt_keys",
    "meter",
    "passwords",
    "printers",
    "report_shares",
    "account",
)

ROUTERS: tuple[Router, ...] = (
    inference.router,
    usage.router,
    exports.router,
    proofs.router,
    invoices.router,
    payments.router,
    webhooks.router,
    keys.router,
    auth.router,
    dashboard.router,
    health.router,
    api_document.router,
)


def create_app(
    settings: Settings,
    *,
    database_url: str,
    backend_factory: BackendFactory | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Litestar:
    """The whole server on a migrated database.

    `backend_factory` loads an offered model (in a thread); by default the engine in this process does.
    `clock` says, in seconds, when refusals are forgotten.
    `/metrics` is here unless it has an address of its own (`create_metrics_app`).
    """
    return Application(
        route_handlers=ROUTERS if settings.metrics_address else (*ROUTERS, metrics.router),
        request_class=StrictRequest,
        request_max_body_size=MAX_BODY_BYTES,
        exception_handlers={
            FareboxError: answer_error,
            HTTPException: answer_error,
            Exception: answer_error,
        },
        dependencies={name: _provided(name) for name in PROVIDED},
        lifespan=[
            partial(
                _opened,
                settings=settings,
                database_url=database_url,
                load=backend_factory or local_backends(settings),
                clock=clock,
            )
        ],
        state=State(
            {
                "settings": settings,
                "security_schemes": API_KEY | session_cookie(settings),
                "cors_origins": settings.cors_origins,
            }
        ),
        logging_config=None,
        openapi_config=None,  # `gateway.operations.api_document` serves our own
    )


def create_metrics_app(app: Litestar) -> Litestar:
    """What is served at `metrics_address`: `/metrics` of `app`, and nothing else."""
    return Application(
        route_handlers=[metrics.router],
        request_class=StrictRequest,
        exception_handlers={
            FareboxError: error_response,
            HTTPException: error_response,
            Exception: error_response,
        },
        state=app.state,
        logging_config=None,
        openapi_config=None,
    )


@asynccontextmanager
async def _opened(
    app: Litestar, *, settings: Settings, database_url: str, load: BackendFactory, clock: Callable[[], float]
) -> AsyncIterator[None]:
    sys.setswitchinterval(SWITCH_SECONDS)
    async with AsyncExitStack() as stack:
        database = Database(database_url, pool_size=settings.database_pool_size)
        stack.push_async_callback(database.close)
        keyring = await Keyring.load(database, settings)
        await stack.enter_async_context(keyring.kept_fresh())
        receipt_keys = await ReceiptKeys.load(database, settings)
        await stack.enter_async_context(receipt_keys.kept_fresh())
        sign = receipt_keys.sign_root if settings.receipts else None
        meter = await Meter.open(settings, database_url, settings.data_dir, sign=sign)
        stack.push_async_callback(meter.close)
        gate = Gate(settings, database_url, clock=clock)
        stack.push_async_callback(gate.close)
        catalog = await stack.enter_async_context(Catalog(database, load).followed())
        runs = await stack.enter_async_context(Runs().drained_at_exit())
        passwords = PasswordHasher()
        stack.callback(passwords.close)
        # Pages and reports are laid out here: some of them are long, and all of it holds the interpreter.
        printers = FairThreads("print", rest=3)
        stack.callback(printers.close)
        # Of reports that are read and wait to be laid out, each with up to 4 MB of rows.
        app.state.report_shares = Shares(4)
        account = Account.of(settings)
        if account is not None:
            stack.callback(account.close)
        app.state.account = account
        app.state.database = database
        app.state.printers = printers
        app.state.passwords = passwords
        app.state.keyring = keyring
        app.state.receipt_keys = receipt_keys
        app.state.meter = meter
        app.state.gateway = Gateway(gate, meter, catalog, runs, settings.default_answer_tokens)
        # What lives now lives to the end: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        freezing = asyncio.create_task(_freeze_models(catalog))
        stack.callback(freezing.cancel)
        stack.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(COLLECT_AFTER_OBJECTS)
        # Thawed in the end: extension modules complain of what is never collected.
        stack.callback(gc.unfreeze)
        yield


async def _freeze_models(catalog: Catalog) -> None:
    """As what came before them, but not looked through: the loop is serving by now."""
    await catalog.loaded.wait()
    gc.freeze()


def _provided(name: str) -> Provide:
    def provide(state: State) -> Any:
        return state[name]

    return Provide(provide, sync_to_thread=False)
