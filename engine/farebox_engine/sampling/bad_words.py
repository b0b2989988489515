"""Words that an answer must not hold, so arranged that a step looks at few of them."""

from __future__ import annotations

from collections.abc import Sequence as Seq


class BadWords:
    """Sequences of tokens, each by the token before its last: only those can come to an end next.

    `always` are the words of one token. It never changes.
    """

    def __init__(self, words: Seq[Seq[int]]) -> None:
        """`words` are token ids, none empty."""
        self.always = [word[0] for word in words if len(word) == 1]
        self._after: dict[int, list[tuple[list[int], int]]] = {}
        for *beginning, last in words:
            if beginning:
                self._after.setdefault(beginning[-1], []).append((beginning, last))

    def after(self, token: int) -> Seq[tuple[list[int], int]]:
        """The words of which `token` may be the last but one: what precedes their last token, and that."""
        return self._after.get(token, ())
