"""`/v1/chat/completions` and `/v1/completions`: what models that write text answer."""
