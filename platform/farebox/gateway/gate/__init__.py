"""In front of all work: who may ask, and how much may wait."""
