"""Encoder-decoders: T5, Marian, BART. The prompt is the source; the completion is the target."""
