"""How many tokens of an answer are reasoning."""

from __future__ import annotations

from farebox_engine.tokenization.answer_format import CLOSE_REASONING, OPEN_REASONING


class ReasoningCount:
    """Counts while the tokens come, by the same marks in the same places as `AnswerParser`.

    Reasoning are all tokens from the answer's first to the one that completes the mark that closes the
    reasoning: that token may hold more, and the marks are generated for the reasoning's sake. So are all
    tokens of an answer that ends before the mark, and none of an answer that does not begin with reasoning.
    """

    __slots__ = ("_closed_at", "_fed", "_open", "_over", "_tail")

    def __init__(self, *, opened: bool) -> None:
        """`opened`: the prompt itself ends with the mark that opens reasoning."""
        self._open = opened
        self._over = False
        self._fed = 0
        self._closed_at = 0
        self._tail = ""

    @property
    def tokens(self) -> int:
        """Those of the answer so far."""
        return self._fed if self._open else self._closed_at

    def feed(self, text: str) -> None:
        """Count a token, which adds `text` to the answer; empty for one that ends it."""
        if self._over:
            return
        self._fed += 1
        self._tail += text
        while self._take_mark():
            pass

    def _take_mark(self) -> bool:
        """Take off what is read up to the next mark, and it; False where there is none."""
        if self._open:
            _, found, rest = self._tail.partition(CLOSE_REASONING)
            # Of what is read no more is kept than may be the beginning of the mark.
            self._tail = rest if found else self._tail[1 - len(CLOSE_REASONING) :]
            if found:
                self._open, self._closed_at = False, self._fed
            return bool(found)
        self._tail = self._tail.lstrip()
        self._open = self._tail.startswith(OPEN_REASONING)
        self._over = not self._open and not OPEN_REASONING.startswith(self._tail)
        if self._open:
            self._tail = self._tail.removeprefix(OPEN_REASONING)
        return self._open
