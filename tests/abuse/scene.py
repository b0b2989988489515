"""Who takes part: what the victim and the attackers have to work with."""

import msgspec

CHAT, TOOLS, RERANKER = "tiny", "tools", "reranker"
# How far back the grown organization's events go.
REPORT_DAYS = 180


class Person(msgspec.Struct):
    """An owner who is signed in to the dashboard: the session's cookie, and external ids of theirs."""

    session: str
    csrf: str
    organization: str
    project: str


class Scene(msgspec.Struct):
    """What the victim and the attackers work with: addresses of the replicas, keys, and people.

    `free_key` has no balance, `revoked_key` is revoked, `grown_key` reads the reports of an organization
    with many events. `sprawler` owns many projects, `hoarder` many keys; both are free.
    """

    urls: list[str]
    victim_key: str
    free_key: str
    revoked_key: str
    paying_key: str
    grown_key: str
    sprawler_key: str
    sprawler: Person
    hoarder: Person
