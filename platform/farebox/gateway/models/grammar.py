"""What binds an answer to a form: what a request specifies, and what a backend compiles of that."""

from farebox_engine.grammar.compiler import JSON_WHITE_SPACE, Grammar, GrammarSpec

__all__ = ["JSON_WHITE_SPACE", "Grammar", "GrammarSpec"]
