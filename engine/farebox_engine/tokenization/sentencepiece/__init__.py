"""SentencePiece's own model files (Kudo and Richardson 2018, arXiv 1808.06226), as Marian has them."""
