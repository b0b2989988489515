"""How an answer looks on the wire: one writer per endpoint, whole or as server-sent events."""
