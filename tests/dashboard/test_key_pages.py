"""A key from making it to revoking it."""

import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from farebox.billing.offers import remove_model
from farebox.core.database import Database
from farebox.core.ids import external
from farebox.dashboard.parts import ROWS
from farebox.keys.service import revoke_key
from farebox.keys.tokens import Keyring
from farebox.tenants.ceilings import CeilingChange, change_ceilings
from farebox.tenants.organizations import archive_project, create_project
from tests.dashboard.browsers import Forms, Member, text_of
from tests.dashboard.conftest import MODEL
from tests.engine.checkpoints import build_checkpoint
from tests.engine.encoders.checkpoints import build_encoder
from tests.gateway.conftest import offer
from tests.gateway.servers import RunningServer
from tests.tenants.factories import make_key

TOKEN = re.compile(r'id="new-key">(fb_live_[\w.-]+)<')


async def make(owner: Member, **fields: str) -> str:
    answer = await owner.browser.submit("/keys", "/keys", **({"name": "server"} | fields))
    assert answer.status_code == 200, text_of(answer.text)
    found = TOKEN.search(answer.text)
    assert found is not None
    return found[1]


async def status_of(owner: Member, token: str, path: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return (await owner.browser.http.get(path, headers=headers)).status_code


async def test_a_key_is_shown_once_works_and_ends(owner: Member) -> None:
    token = await make(owner)
    assert await status_of(owner, token, "/v1/models") == 200
    page = (await owner.browser.get("/keys")).text
    assert token not in page
    assert f"fb_live_…{token[-4:]}" in page
    revoke = next(path for path in re.findall(r'action="(/keys/key_\w+/revoke)"', page))
    answer = await owner.browser.submit("/keys", revoke)
    assert (answer.status_code, answer.headers["location"]) == (303, "/keys")
    assert await status_of(owner, token, "/v1/models") == 401
    words = text_of((await owner.browser.get("/keys")).text)
    assert "Revoked and expired keys (1)" in words


async def test_a_key_does_what_it_was_made_for(owner: Member) -> None:
    costs = "/v1/organization/costs?start_time=0"
    assert await status_of(owner, await make(owner), costs) == 403
    assert await status_of(owner, await make(owner, scope="admin"), costs) == 200


async def test_bad_fields_are_said_on_the_page(owner: Member) -> None:
    project = external("proj", owner.tenant.project_id)
    for fields in ({"name": ""}, {"name": "x" * 101}, {"name": "a\x00b"}, {"scope": "everything"}):
        answer = await owner.browser.submit("/keys", "/keys", **({"name": "ok", "project": project} | fields))
        assert answer.status_code == 400, fields
        assert 'role="alert"' in answer.text
        assert "`" not in answer.text
    for fields in ({"days": "0"}, {"days": "99999"}, {"days": "soon"}, {"name": "x" * 1001}):
        answer = await owner.browser.submit("/keys", "/keys", **({"name": "ok"} | fields))
        assert answer.status_code == 400, fields
        name = next(iter(fields))
        beside = answer.text.split(f'id="{name}"')[1].split("</p>")[0]
        assert 'role="alert"' in beside
        assert f'aria-invalid="true" aria-describedby="fault-{name}"' in beside
        assert dict(Forms(answer.text).found)["/keys"]["name"] == fields.get("name", "ok")


async def test_last_use_is_shown(owner: Member) -> None:
    token = await make(owner, name="used")
    row = (await owner.browser.get("/keys")).text.split("<strong>used</strong>")[1].split("</tr>")[0]
    assert "never" in row
    assert await status_of(owner, token, "/v1/models") == 200
    row = (await owner.browser.get("/keys")).text.split("<strong>used</strong>")[1].split("</tr>")[0]
    assert "never" not in row
    assert "<time " in row


async def test_keys_of_an_archived_project_can_still_be_seen_and_ended(
    owner: Member, database: Database
) -> None:
    tenant = owner.tenant
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await archive_project(
            session,
            organization_id=tenant.organization_id,
            project_id=tenant.project_id,
            actor_id=tenant.user_id,
        )
        await create_project(
            session, organization_id=tenant.organization_id, name="Next", actor_id=tenant.user_id
        )
    for path in ("/overview", "/limits"):
        assert (await owner.browser.get(path)).status_code == 200
    revoke = f"/keys/{external('key', tenant.key_id)}/revoke"
    answer = await owner.browser.submit("/keys", revoke)
    assert answer.status_code == 303


async def test_an_organization_without_an_open_project_still_has_its_pages(
    owner: Member, database: Database
) -> None:
    tenant = owner.tenant
    async with database.transaction(organization_id=tenant.organization_id) as session:
        await archive_project(
            session,
            organization_id=tenant.organization_id,
            project_id=tenant.project_id,
            actor_id=tenant.user_id,
        )
    for path in ("/overview", "/keys", "/limits"):
        assert (await owner.browser.get(path)).status_code == 200, path


@pytest.fixture
async def others_on_offer(
    database: Database, site: RunningServer, tmp_path: Path
) -> AsyncIterator[list[str]]:
    """Before the model that chats: an encoder, one without a chat template, one that cannot be loaded."""
    folders = {
        "a-reader": build_encoder(tmp_path / "reader", "Bert"),
        "a-writer": build_checkpoint(tmp_path / "writer"),
        "a-wreck": tmp_path / "absent",
    }
    settings = folders["a-writer"] / "tokenizer_config.json"
    kept = json.loads(settings.read_text())
    del kept["chat_template"]
    settings.write_text(json.dumps(kept))
    for name, folder in folders.items():
        await offer(database, name, folder)
    await site.call(site.gateway.catalog.refresh)
    yield list(folders)
    async with database.meter_transaction() as session:
        for name in folders:
            await remove_model(session, name)
    await site.call(site.gateway.catalog.refresh)


async def test_the_call_to_try_names_a_model_that_chats(
    owner: Member, others_on_offer: list[str], site: RunningServer, database: Database
) -> None:
    mine = [*others_on_offer, MODEL]
    async with database.meter_transaction() as session:
        # Other tests' models may be loaded, too.
        change = CeilingChange(allowed_models=mine)
        await change_ceilings(session, owner.tenant.organization_id, change)
    loaded = [served.id for served in site.gateway.catalog.all() if served.id in mine]
    assert loaded == [*others_on_offer[:2], MODEL]
    for page in (
        await owner.browser.submit("/keys", "/keys", name="server"),
        await owner.browser.get("/overview"),
    ):
        assert f'"model": "{MODEL}"' in unescape(page.text)


async def test_many_keys_are_shown_in_parts(owner: Member, database: Database, keyring: Keyring) -> None:
    """However many there are, in use or ended, a page is of a size."""
    tenant = owner.tenant
    made = [await make_key(database, keyring, tenant) for _ in range(2 * ROWS)]
    first, second, third = [(await owner.browser.get(f"/keys?live={n}")).text for n in (1, 2, 3)]
    shown = [set(re.findall(r"/keys/(key_\w+)/revoke", page)) for page in (first, second, third)]
    assert [len(keys) for keys in shown] == [ROWS, ROWS, 1]
    ids = {external("key", each.row.id) for each in made} | {external("key", tenant.key_id)}
    assert set.union(*shown) == ids
    assert [('rel="prev"' in page, 'rel="next"' in page) for page in (first, second, third)] == [
        (False, True),
        (True, True),
        (True, False),
    ]
    async with database.transaction(organization_id=tenant.organization_id) as session:
        for each in made:
            await revoke_key(
                session, organization_id=tenant.organization_id, key_id=each.row.id, actor_id=None
            )
    ended = (await owner.browser.get("/keys?ended=2")).text
    assert f"Revoked and expired keys ({2 * ROWS})" in text_of(ended)
    assert ended.count('data-label="Ended"') == ROWS
    assert len(re.findall(r"/keys/(key_\w+)/revoke", ended)) == 1
    for wrong in ("0", "x", "1000000000"):
        assert (await owner.browser.get(f"/keys?live={wrong}")).status_code == 400
