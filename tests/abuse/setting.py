"""Setting the scene: the victim, the attackers' accounts and what they amassed, the models on offer."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

from farebox.auth import csrf, sessions
from farebox.billing.offers import add_model
from farebox.billing.prices import set_price
from farebox.core.clock import utc_now
from farebox.core.database import Database, plain_dsn
from farebox.core.ids import external
from farebox.keys.service import revoke_key
from farebox.keys.tokens import Keyring
from farebox.limits.service import LimitChange, set_limits
from tests.abuse.scene import CHAT, REPORT_DAYS, RERANKER, TOOLS, Person, Scene
from tests.engine.checkpoints import build_checkpoint
from tests.engine.encoders.checkpoints import build_encoder
from tests.tenants.factories import Tenant, make_key, make_tenant
from tests.usage.usage_history import add_history

CONTEXT_LENGTH = 8192
PROJECTS = 1_500
KEYS = 500
EVENTS = 300_000
PIECES = 30
# Generous beside what the victim asks for: nothing but an attack can have it refused.
VICTIMS_LIMIT = 1_000_000_000
TOOLS_TEMPLATE = (
    "{% if tools %}{{ tools | tojson }} within <tool_call></tool_call>{% endif %}"
    "{% for message in messages %}<|{{ 'user' if message.role == 'tool' else message.role }}|>"
    "{{ message.content }}{% for call in message.tool_calls %}CALL{% endfor %}<|end|>"
    "{% endfor %}<|assistant|>"
)
_PROJECTS = """
INSERT INTO project (id, organization_id, name)
SELECT gen_random_uuid(), $1, 'Project ' || number FROM generate_series(1, $2) AS number
"""


async def offer_models(database: Database, folder: Path) -> None:
    """A model that chats, one whose template knows tools, and one that reranks: all tiny."""
    chat = build_checkpoint(folder / CHAT, max_position_embeddings=CONTEXT_LENGTH)
    tools = build_checkpoint(folder / TOOLS, max_position_embeddings=CONTEXT_LENGTH)
    settings = json.loads((tools / "tokenizer_config.json").read_text())
    (tools / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": TOOLS_TEMPLATE}))
    reranker = build_encoder(folder / RERANKER, "Bert", "ForSequenceClassification", num_labels=1)
    for name, path in ((CHAT, chat), (TOOLS, tools), (RERANKER, reranker)):
        async with database.meter_transaction() as session:
            await add_model(
                session,
                model_id=name,
                path=str(path),
                sha256="0" * 64,
                context_length=CONTEXT_LENGTH,
                owned_by="tests",
            )
            await set_price(
                session,
                name,
                input_per_million=Decimal("0.50"),
                cached_input_per_million=Decimal("0.25"),
                output_per_million=Decimal("1.50"),
                currency="USD",
            )


async def set_scene(database: Database, keyring: Keyring) -> Scene:
    """All accounts, and what they have amassed. Who serves is not known yet: `urls` is empty."""
    victim = await make_tenant(database, keyring, balance=Decimal(1_000))
    await _lift_limits(database, victim)
    free, revoked, sprawler, hoarder = [await make_tenant(database, keyring) for _ in range(4)]
    paying = await make_tenant(database, keyring, balance=Decimal(1_000))
    grown = await make_tenant(database, keyring, balance=Decimal(10))
    async with database.transaction(organization_id=revoked.organization_id) as session:
        await revoke_key(
            session,
            organization_id=revoked.organization_id,
            key_id=revoked.key_id,
            actor_id=revoked.user_id,
        )
    for _ in range(KEYS):
        await make_key(database, keyring, hoarder, lifetime=timedelta(days=1))
    await _amass(database, sprawler, grown)
    return Scene(
        urls=[],
        victim_key=victim.api_key,
        free_key=free.api_key,
        revoked_key=revoked.api_key,
        paying_key=paying.api_key,
        grown_key=grown.api_key,
        sprawler_key=sprawler.api_key,
        sprawler=await _sign_in(database, sprawler),
        hoarder=await _sign_in(database, hoarder),
    )


async def _lift_limits(database: Database, tenant: Tenant) -> None:
    change = LimitChange(
        requests_per_minute=VICTIMS_LIMIT,
        tokens_per_minute=VICTIMS_LIMIT,
        concurrent_requests=VICTIMS_LIMIT,
    )
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await set_limits(session, tenant.organization_id, tenant.project_id, change)


async def _amass(database: Database, sprawler: Tenant, grown: Tenant) -> None:
    """What would take an attacker minutes, or a customer half a year; as the tables' owner."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(dsn=plain_dsn(database.url))
    try:
        await connection.execute(_PROJECTS, sprawler.organization_id, PROJECTS)
        await _use(database, grown)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


async def _use(database: Database, grown: Tenant) -> None:
    """Events until now, in pieces that Postgres writes in less than the time of a statement."""
    span = timedelta(days=REPORT_DAYS - 5) / PIECES
    begin = utc_now() - PIECES * span
    for piece in range(PIECES):
        await add_history(
            database,
            organization_id=grown.organization_id,
            project_id=grown.project_id,
            api_key_id=grown.key_id,
            model=CHAT,
            start=begin + piece * span,
            span=span,
            number=EVENTS // PIECES,
        )


async def _sign_in(database: Database, tenant: Tenant) -> Person:
    async with database.transaction(user_id=tenant.user_id) as session:
        token = await sessions.create(session, tenant.user_id)
    return Person(
        session=token,
        csrf=csrf.token_for(token),
        organization=external("org", tenant.organization_id),
        project=external("proj", tenant.project_id),
    )
