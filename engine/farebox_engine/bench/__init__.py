"""How fast the engine is, beside the machine's floor and beside transformers, in one run."""
