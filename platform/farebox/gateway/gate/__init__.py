"""In front of all work: who may ask, how much may wait, and whose turn it is in the threads."""
