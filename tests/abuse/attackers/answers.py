"""Attackers who pay for what they do: their requests are admitted, and dear to answer."""

import json

from tests.abuse.attackers.tools import Attack, Attacker, chat
from tests.abuse.scene import CHAT

CHATS, TEXTS = "/v1/chat/completions", "/v1/completions"


async def ask_logprobs(attack: Attack, _: int) -> None:
    """6,000 tokens in one document, each with 20 others."""
    body = chat(n=4, max_tokens=1_500, ignore_eos=True, logprobs=True, top_logprobs=20)
    await attack.post(CHATS, body, attack.scene.paying_key)


async def ask_echo(attack: Attack, _: int) -> None:
    """The log-probabilities of a long prompt."""
    body = {"model": CHAT, "prompt": [7] * 6_000, "max_tokens": 1, "echo": True, "logprobs": 5}
    await attack.post(TEXTS, json.dumps(body).encode(), attack.scene.paying_key)


async def ask_many(attack: Attack, _: int) -> None:
    """As many answers to one request as may be."""
    body = {"model": CHAT, "prompt": ["the cat"] * 4, "n": 16, "max_tokens": 32, "ignore_eos": True}
    await attack.post(TEXTS, json.dumps(body).encode(), attack.scene.paying_key)


async def ask_long(attack: Attack, _: int) -> None:
    """An ordinary heavy user."""
    body = chat(max_tokens=1_000, ignore_eos=True, stream=True)
    await attack.post(CHATS, body, attack.scene.paying_key)


ATTACKERS = [
    Attacker("logprobs", "answers of 4 × 1,500 tokens with 20 log-probabilities each", 1, ask_logprobs, 45),
    Attacker("echoed", "6,000 tokens echoed with 5 log-probabilities each", 4, ask_echo, 20),
    Attacker("many-answers", "4 prompts with 16 answers of 32 tokens each", 4, ask_many, 20),
    Attacker("long-answers", "60 streams of 1,000 tokens at once", 60, ask_long),
]
