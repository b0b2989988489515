"""Attackers on the dashboard, the reports and the pages that anybody may see."""

import asyncio
import time

from tests.abuse.attackers.tools import Attack, Attacker, chat
from tests.abuse.scene import REPORT_DAYS

KNOCK_SECONDS = 0.05
SAVING = 2


async def save_limits(attack: Attack, place: int) -> None:
    """Two save limits on a page of many projects; the others' refused requests lock the same rows."""
    person = attack.scene.sprawler
    if place < SAVING:
        await attack.visit(person, f"/limits/{person.organization}", {"requests_per_minute": "100"})
        return
    await attack.post("/v1/chat/completions", chat(), attack.scene.sprawler_key)
    await asyncio.sleep(KNOCK_SECONDS)


async def open_limits(attack: Attack, _: int) -> None:
    await attack.visit(attack.scene.sprawler, "/limits")


async def report_line_items(attack: Attack, _: int) -> None:
    start = int(time.time()) - (REPORT_DAYS - 1) * 86_400
    await attack.send(
        "GET",
        f"/v1/organization/costs?start_time={start}&limit={REPORT_DAYS}&group_by=line_item",
        headers={"authorization": f"Bearer {attack.scene.grown_key}"},
    )


async def report_minutes(attack: Attack, _: int) -> None:
    start = int(time.time()) - 86_000
    await attack.send(
        "GET",
        f"/v1/organization/usage/completions?start_time={start}&bucket_width=1m&limit=1440&group_by=model",
        headers={"authorization": f"Bearer {attack.scene.grown_key}"},
    )


async def make_keys(attack: Attack, _: int) -> None:
    person = attack.scene.hoarder
    form = {"name": "one more", "project": person.project, "days": "365", "scope": "inference"}
    await attack.visit(person, "/keys", form)


async def make_projects(attack: Attack, _: int) -> None:
    await attack.visit(attack.scene.hoarder, "/projects", {"name": "one more"})


async def open_public_pages(attack: Attack, place: int) -> None:
    await attack.send("GET", ("/metrics", "/schema", "/docs")[place % 3])


ATTACKERS = [
    Attacker(
        "limits-saved",
        "limits saved on a page of 1,500 projects, while a key without a balance knocks 40 times a second",
        4,
        save_limits,
    ),
    Attacker("limits-opened", "`GET /limits` with 1,500 projects, without a pause", 16, open_limits),
    Attacker("line-items", "costs by line item over 180 days, 300,000 events", 16, report_line_items),
    Attacker("minutes", "usage by the minute and model over a day, 300,000 events", 16, report_minutes),
    Attacker("keys-made", "keys made without a pause on a page of 500 and more", 4, make_keys),
    Attacker("projects-made", "projects made without a pause", 4, make_projects),
    Attacker(
        "public-pages", "`/metrics`, `/schema` and `/docs` by nobody, without a pause", 12, open_public_pages
    ),
]
