"""Run by path in a process of its own: compiles grammars, and dies of one that takes too long.

Imports nothing of this package, which would bring torch along. Standard input: a line of JSON with the
vocabulary and the bounds, then a line for each grammar. Standard output: a line when ready, and one for each
grammar that ended in time, whether it could be enforced or not.
"""

import json
import resource
import signal
import sys

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper


class _Words:
    """The vocabulary as llguidance asks for it."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], special: list[int], end_token: int) -> None:
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = end_token
        self._of_byte = {token[0]: number for number, token in enumerate(tokens) if len(token) == 1}

    def __call__(self, text: str | bytes) -> list[int]:
        """By bytes: how a text is cut up does not matter to the time that a grammar takes."""
        data = text if isinstance(text, bytes) else text.encode()
        return [self._of_byte[byte] for byte in data if byte in self._of_byte]


def _tell(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until standard input ends."""
    setup = json.loads(sys.stdin.readline())
    words = _Words(
        [token.encode("latin-1") for token in setup["tokens"]], setup["special"], setup["end_tokens"][0]
    )
    tokenizer = LLTokenizer(TokenizerWrapper(words), n_vocab=len(words.tokens), eos_token=setup["end_tokens"])
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
