"""Attackers whose requests are dear to read, and are refused in the end: their accounts have no balance."""

import json
from functools import cache
from typing import Any

from tests.abuse.attackers.tools import Attack, Attacker, Numbers, chat, text_of
from tests.abuse.scene import CHAT, RERANKER, TOOLS

CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"
LARGE = 900_000
_numbers = Numbers()


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@cache
def _body(kind: str) -> bytes:
    large = text_of(LARGE)
    match kind:
        case "rerank":
            body = {"model": RERANKER, "query": text_of(100_000), "documents": ["x"] * 150}
            return json.dumps(body).encode()
        case "prompt":
            return chat(messages=_user(large))
        case "parts":
            return chat(messages=_user([{"type": "text", "text": large}]))
        case "messages":
            return chat(messages=_user("") * 25_000)
        case "tool":
            parameters = {"type": "object", "description": text_of(840_000)}
            function = {"name": "f", "parameters": parameters}
            return chat(model=TOOLS, tools=[{"type": "function", "function": function}])
        case "bias":
            return chat(logit_bias={str(token): 1 for token in range(60_000)})
        case "ids":
            return json.dumps({"model": CHAT, "prompt": [7] * 300_000, "max_tokens": 1}).encode()
        case "texts":
            return json.dumps({"model": CHAT, "prompt": [text_of(14_000)] * 64, "max_tokens": 1}).encode()
        case "deep":
            return b'{"model":"tiny","messages":' + b"[" * LARGE + b"}"
        case _:
            raise ValueError(kind)


def _sends(path: str, kind: str) -> Any:
    async def send(attack: Attack, _: int) -> None:
        await attack.post(path, _body(kind), attack.scene.free_key)

    return send


async def send_too_long(attack: Attack, place: int) -> None:
    """What no context holds, by two accounts with money: a thread has to count the tokens first."""
    scene = attack.scene
    await attack.post(CHATS, _body("prompt"), (scene.paying_key, scene.grown_key)[place % 2])


async def send_revoked(attack: Attack, _: int) -> None:
    await attack.post(CHATS, _body("prompt"), attack.scene.revoked_key)


async def send_refused(attack: Attack, _: int) -> None:
    await attack.post(CHATS, chat(), attack.scene.free_key)


async def send_grammar(attack: Attack, place: int) -> None:
    """Grammars that are slow to compile, each a new one."""
    number = _numbers.one()
    wide = {f"p{i}": {"type": "string", "enum": [f"v{number}-{j}" for j in range(40)]} for i in range(60)}
    outputs: list[dict[str, Any]] = [
        {"json": {"type": "object", "properties": wide, "required": list(wide)}},
        {"regex": f"(a|b){{1,400}}((c|d){{1,60}}e){{1,60}}{number}"},
        {"json": {"anyOf": [{"type": "string", "pattern": f"^(a+{i})+{number}$"} for i in range(100)]}},
        {"choice": [f"{number} choice {i}" for i in range(900)]},
    ]
    body = chat(structured_outputs=outputs[place % len(outputs)])
    await attack.post(CHATS, body, attack.scene.free_key)


async def send_forged_key(attack: Attack, _: int) -> None:
    """A key's head and claims with another signature each time: no cache knows it."""
    claims = attack.scene.free_key.rpartition(".")[0]
    signature = f"{_numbers.one():086d}"
    await attack.post(CHATS, chat(), f"{claims}.{signature}")


ATTACKERS = [
    Attacker("rerank-bomb", "a rerank of 100 kB against 150 documents", 2, _sends("/v1/rerank", "rerank")),
    Attacker("long-prompts", "chats of 900 kB of text", 4, _sends(CHATS, "prompt")),
    Attacker(
        "too-long", "chats of 900 kB that no context holds, by two accounts with money", 8, send_too_long
    ),
    Attacker("long-parts", "chats of one content part of 900 kB", 4, _sends(CHATS, "parts")),
    Attacker("many-messages", "chats of 25,000 empty messages", 4, _sends(CHATS, "messages")),
    Attacker("huge-tool", "chats with one tool of 840 kB", 2, _sends(CHATS, "tool")),
    Attacker("many-prompts", "completions of 64 prompts of 14 kB", 4, _sends(TEXTS, "texts")),
    Attacker("token-ids", "completions of 300,000 token ids", 4, _sends(TEXTS, "ids")),
    Attacker("wide-bias", "chats with 60,000 biases", 4, _sends(CHATS, "bias")),
    Attacker("deep-json", "900,000 open brackets", 4, _sends(CHATS, "deep")),
    Attacker("slow-grammars", "grammars that are slow to compile, each a new one", 8, send_grammar),
    Attacker("refused", "small chats without a balance, without a pause", 8, send_refused),
    Attacker("revoked", "chats of 900 kB with a revoked key", 4, send_revoked),
    Attacker("forged-keys", "small chats with a forged signature, each a new one", 8, send_forged_key),
]
