"""Grammars that can be compiled and run into something after a few tokens; and one that takes for ever."""

from string import ascii_lowercase


def _mutual(letter: str, rules: int, end: str = "") -> str:
    """In Lark: after `so: `, letters each of which belongs to any of the rules, and goes on with any."""
    names = [f"rule{index}" for index in range(rules)]
    body = " | ".join(f"letter {name}" for name in names) + end
    return f'start: "so: " rule0\nletter: {letter}\n' + "\n".join(f"{name}: {body}" for name in names)


AMBIGUOUS = _mutual(" | ".join(f'"{letter}"' for letter in ascii_lowercase), 20)
# An answer may end anywhere; only if it does not, it gets stuck.
RECURSIVE = _mutual('"a"', 20, end=" | letter")
DEAD_END = 'start: "so: " NOTHING\nNOTHING: /b*/ & ~/b*/'
HUGE_REGEX = "(a{1000}){1000}"
# The search for what all of these match does not end in any useful time.
SLOW = r"""start: "so: " A
A: /(?s:.*)x(?s:.{20})/ & /(?s:.*)y(?s:.{19})/ & /(?s:.*)z(?s:.{18})/ & ~/(?s:.*)q(?s:.{17})/"""
