"""Attackers who misuse connections."""

import asyncio
import socket
from functools import cache

from tests.abuse.attackers.tools import Attack, Attacker, chat, head

PATH = "/v1/chat/completions"
PIPELINED = 30
HELD_BYTES = 900_000
HEADER_BYTES = 30_000
TOKEN_BYTES = 5_000_000
LINGER_SECONDS = 0.2


async def hold_head(attack: Attack, _: int) -> None:
    """Half a head, and then nothing until the server has had enough."""
    reader, writer = await attack.connect()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127")
    attack.note(await reader.read())
    writer.close()


async def hold_body(attack: Attack, _: int) -> None:
    """A large body but for its last byte."""
    reader, writer = await attack.connect()
    writer.write(head(PATH, attack.scene.free_key, HELD_BYTES))
    writer.write(_blank(HELD_BYTES - 1))
    await writer.drain()
    attack.note(await reader.read())
    writer.close()


async def read_nothing(attack: Attack, _: int) -> None:
    """A paid stream that is never read; the receive buffer is as small as can be."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    host, port = attack.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    body = chat(max_tokens=1_000, ignore_eos=True, stream=True, logprobs=True, top_logprobs=20)
    try:
        request = head(PATH, attack.scene.paying_key, len(body)) + body
        await asyncio.get_running_loop().sock_sendall(connection, request)
        await asyncio.Event().wait()
    finally:
        connection.close()


async def leave_pipelined(attack: Attack, _: int) -> None:
    """Many requests in one write, and gone before the answers."""
    writer = (await attack.connect())[1]
    body = chat(max_tokens=100, ignore_eos=True)
    writer.write((head(PATH, attack.scene.paying_key, len(body)) + body) * PIPELINED)
    await asyncio.sleep(LINGER_SECONDS)
    writer.transport.abort()
    attack.told["left"] += 1


async def send_giant_header(attack: Attack, _: int) -> None:
    """A head that just fits."""
    headers = {f"x-{number}": "y" * 100 for number in range(HEADER_BYTES // 110)}
    await attack.send("GET", "/livez", headers=headers)


async def send_giant_token(attack: Attack, _: int) -> None:
    """A key of 5 MB."""
    reader, writer = await attack.connect()
    writer.write(head(PATH, "e" * TOKEN_BYTES, 0))
    attack.note(await reader.read())
    writer.close()


@cache
def _blank(size: int) -> bytes:
    return b" " * size


ATTACKERS = [
    Attacker("idle-sockets", "2,000 connections with half a head each", 2_000, hold_head),
    Attacker("held-bodies", "400 bodies of 900 kB without their last byte", 400, hold_body),
    Attacker("slow-readers", "60 paid streams that nobody reads", 60, read_nothing),
    Attacker("pipelined-leavers", "30 paid requests in one write, left at once", 4, leave_pipelined),
    Attacker("giant-headers", "heads of 30 kB, without a pause", 8, send_giant_header),
    Attacker("giant-tokens", "API keys of 5 MB", 8, send_giant_token),
]
