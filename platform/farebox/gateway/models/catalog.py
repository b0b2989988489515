"""The models this process serves, following the `model` table."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import asyncpg
import structlog

from farebox.billing.models import ModelOffer
from farebox.billing.offers import active_models
from farebox.core.database import Database, open_connection
from farebox.core.errors import Unavailable
from farebox.gateway.errors import InvalidParameter, ModelLoading
from farebox.gateway.models.adapters import base_of
from farebox.gateway.models.backend import InferenceBackend
from farebox.gateway.models.encoder import EncoderBackend
from farebox.metering.errors import ModelNotFound
from farebox_engine.errors import LoadError

CHANNEL = "farebox_model"
POLL_SECONDS = 30.0
RECONNECT_SECONDS = 1.0

Backend = InferenceBackend | EncoderBackend
Kind = Literal["generation", "embedding", "classification", "reranking"]
BackendFactory = Callable[[ModelOffer], Backend]

_KINDS: dict[str, Kind] = {
    "/v1/embeddings": "embedding",
    "/v1/classify": "classification",
    "/v1/rerank": "reranking",
}

log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class ServedModel:
    """A loaded model. It is closed when it has left the catalog and nobody uses it any more.

    An adapter uses its `base` for as long as it is loaded.
    """

    id: str
    created: int
    owned_by: str
    version: tuple[str, ...]
    backend: Backend
    base: "ServedModel | None" = None
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def offered_sha256(self) -> str:
        """The weights' hash as the operator offered them."""
        return self.version[1]

    @property
    def fingerprint(self) -> str:
        """What clients see of the weights' hash."""
        return f"fp_{self.backend.model_hash[:12]}"

    @property
    def kind(self) -> Kind:
        """What the model is for."""
        return _KINDS[self.backend.endpoint] if isinstance(self.backend, EncoderBackend) else "generation"

    @property
    def chats(self) -> bool:
        """Whether it answers conversations."""
        return not isinstance(self.backend, EncoderBackend) and self.backend.chats

    @property
    def generator(self) -> InferenceBackend:
        """The backend of a model that writes text. Raises InvalidParameter for an encoder."""
        if isinstance(self.backend, EncoderBackend):
            raise InvalidParameter(
                f"The model `{self.id}` writes no text; use {self.backend.endpoint}.", "model"
            )
        return self.backend

    @property
    def encoder(self) -> EncoderBackend:
        """The backend of an encoder. Raises InvalidParameter for a model that writes text."""
        if not isinstance(self.backend, EncoderBackend):
            raise InvalidParameter(
                f"The model `{self.id}` is no encoder; use /v1/chat/completions or /v1/completions.", "model"
            )
        return self.backend

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model loaded while the context is open."""
        self.take()
        try:
            yield
        finally:
            self.let_go()

    def take(self) -> None:
        """Keep the model loaded until `let_go`."""
        self.users += 1
        self.idle.clear()

    def let_go(self) -> None:
        self.users -= 1
        if not self.users:
            self.idle.set()


class Catalog:
    """Loads the models that are offered, in a thread, and lets go of those that are not any more.

    Postgres's NOTIFY tells of changes at once, a slow poll of what a lost connection missed. A model
    that fails to load is in `failures` with the reason, and is tried again when the operator offers any
    model again: its folder may have been mended in place. What waits to be loaded for the first time is
    in `loading`; `loaded` is set once all have been tried that were on offer at the start.
    """

    def __init__(self, database: Database, load: BackendFactory) -> None:
        self.failures: dict[str, str] = {}
        self.loading: set[str] = set()
        self.loaded = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._database = database
        self._load = load
        self._served: dict[str, ServedModel] = {}
        self._failed: dict[str, tuple[str, ...]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def followed(self) -> AsyncIterator["Catalog"]:
        """Load what is offered and follow changes while the context is open; close all at its end.

        What is loaded serves, whatever else is still to be loaded. Raises Unavailable when Postgres is away.
        """
        self.loading.update(await self._offers())
        task = asyncio.create_task(self._follow(), name="catalog")
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            for task in self._retiring:
                task.cancel()
            for served in self._served.values():
                await served.backend.close()

    def get(self, model_id: str) -> ServedModel:
        """Raises ModelNotFound, and ModelLoading (503)."""
        served = self._served.get(model_id)
        if served is None:
            raise ModelLoading(model_id) if model_id in self.loading else ModelNotFound(model_id)
        return served

    def find(self, model_id: str) -> ServedModel | None:
        return self._served.get(model_id)

    def all(self) -> list[ServedModel]:
        """Every model that can be called now, by id."""
        return [self._served[model_id] for model_id in sorted(self._served)]

    async def refresh(self) -> None:
        """Make what is served equal what is offered. Raises Unavailable when Postgres is away."""
        async with self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        offers = await self._offers()
        self.loading = offers.keys() - self._served.keys() - self._failed.keys()
        for model_id in self._served.keys() - offers.keys():
            self._retire(self._served.pop(model_id))
        for model_id in self.failures.keys() - offers.keys():
            self._forget_failure(model_id)
        bases = {offer.id: base_of(offer.id, Path(offer.path)) for offer in offers.values()}
        # Adapters after what they are for.
        for offer in sorted(offers.values(), key=lambda offer: bases[offer.id] is not None):
            await self._adopt(offer, bases[offer.id])
            self.loading.discard(offer.id)
        self.loaded.set()

    async def _offers(self) -> dict[str, ModelOffer]:
        async with self._database.transaction() as session:
            return {offer.id: offer for offer in await active_models(session)}

    async def _adopt(self, offer: ModelOffer, base_id: str | None) -> None:
        base = None if base_id is None else self._served.get(base_id)
        # With another base, an adapter is another model.
        version = (offer.path, offer.sha256, *(base.version if base else ()))
        present = self._served.get(offer.id)
        if present and present.version == version:
            self._forget_failure(offer.id)
            return
        if self._failed.get(offer.id) == version:
            return
        try:
            if base_id is None:
                backend = await asyncio.to_thread(self._load, offer)
            elif base is None:
                raise LoadError(f"The adapter {offer.id} is for the model {base_id!r}, which is not served.")
            else:
                backend = await asyncio.to_thread(base.generator.with_adapter, offer.id, offer.path)
            backend.start()
        except Exception as error:
            # One bad folder must not take the others down: the reason is logged and shown in /readyz.
            log.exception("model.load_failed", model=offer.id)
            self._failed[offer.id] = version
            self.failures[offer.id] = _told(error, Path(offer.path))
            if present and base_id is not None and base is None:
                self._retire(self._served.pop(offer.id))
            return
        self._forget_failure(offer.id)
        created = int(offer.created_at.timestamp())
        served = ServedModel(offer.id, created, offer.owned_by, version, backend, base)
        if base is not None:
            base.take()
        self._served[offer.id] = served
        log.info("model.loaded", model=offer.id, sha256=offer.sha256)
        if present:
            self._retire(present)

    def _hear(self) -> None:
        self._failed.clear()
        self._changed.set()

    def _forget_failure(self, model_id: str) -> None:
        self._failed.pop(model_id, None)
        self.failures.pop(model_id, None)

    def _retire(self, served: ServedModel) -> None:
        task = asyncio.create_task(_close_when_idle(served), name=f"retire-{served.id}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        # Its memory is free now: a model that did not fit may be tried again.
        task.add_done_callback(lambda _: self._hear())

    async def _follow(self) -> None:
        while True:
            try:
                await self._listen()
            except (
                OSError,
                TimeoutError,
                asyncpg.PostgresError,
                asyncpg.InterfaceError,
                Unavailable,
            ) as error:
                log.warning("catalog.database_away", reason=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await open_connection(self._database.url, "farebox_app")
        try:
            await connection.add_listener(CHANNEL, lambda *_: self._hear())
            connection.add_termination_listener(lambda *_: self._changed.set())
            while not connection.is_closed():
                self._changed.clear()
                await self.refresh()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._changed.wait()
        finally:
            connection.terminate()


async def _close_when_idle(served: ServedModel) -> None:
    while served.users:
        await served.idle.wait()
    await served.backend.close()
    if served.base is not None:
        served.base.let_go()
    log.info("model.unloaded", model=served.id)


def _told(error: Exception, folder: Path) -> str:
    """The reason, for strangers too: the folder's name stands for where it is."""
    text = str(error)
    for path in (str(folder.resolve()), str(folder)):
        text = text.replace(path, folder.name)
    return text
