"""Run by path in a process of its own: compiles grammars, and dies of one that takes too long.

Imports nothing of this package, which would bring torch along. Standard input: a line of JSON with the
vocabulary and the bounds, then a line for each grammar. Standard output: a line when ready, and one for each
grammar that ended in time, whether it could be enforced or not.
"""

import json
import resource
import signal
import sys
from collections.abc import Callable

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper


class Words:
    """A vocabulary as llguidance asks for it."""

    bos_token_id = None

    def __init__(
        self, tokens: list[bytes], special: list[int], end_token: int, encode: Callable[[str], list[int]]
    ) -> None:
        """`encode` gives the tokens of what a grammar leaves no choice about."""
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = end_token
        self._encode = encode

    def __call__(self, text: str) -> list[int]:
        """The tokens of `text`."""
        return self._encode(text)


def _byte_encoder(tokens: list[bytes]) -> Callable[[str], list[int]]:
    """By bytes: how a text is cut up does not matter to the time that a grammar takes."""
    of_byte = {token[0]: number for number, token in enumerate(tokens) if len(token) == 1}
    return lambda text: [of_byte[byte] for byte in text.encode() if byte in of_byte]


def _tell(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until standard input ends."""
    setup = json.loads(sys.stdin.readline())
    tokens = [token.encode("latin-1") for token in setup["tokens"]]
    words = Words(tokens, setup["special"], setup["end_tokens"][0], _byte_encoder(tokens))
    tokenizer = LLTokenizer(TokenizerWrapper(words), n_vocab=len(tokens), eos_token=setup["end_tokens"])
    limits = LLParserLimits(**setup["limits"])
    resource.setrlimit(resource.RLIMIT_AS, (setup["memory_bytes"], setup["memory_bytes"]))
    # The alarm's default, to end the process, needs no help from what is being computed.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    _tell("ready")
    for line in sys.stdin:
        source = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, setup["seconds"])
        LLMatcher(tokenizer, source, log_level=0, limits=limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _tell("done")


if __name__ == "__main__":
    main()
