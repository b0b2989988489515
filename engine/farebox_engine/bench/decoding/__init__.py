"""Decoding speed beside the machine's floor and beside transformers."""
