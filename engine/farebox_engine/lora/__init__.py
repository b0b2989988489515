"""Low-rank adapters on a decoder's projections (Hu et al. 2021, arXiv 2106.09685), many in one batch."""
