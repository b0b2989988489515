"""All attackers by name; each is a round that its connections do again and again."""

from tests.abuse.attackers import accounts, answers, pages, prompts, sockets
from tests.abuse.attackers.tools import Attacker

ATTACKERS: dict[str, Attacker] = {
    each.name: each for module in (pages, prompts, answers, sockets, accounts) for each in module.ATTACKERS
}
