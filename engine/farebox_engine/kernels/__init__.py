"""Kernels for GPUs, and their plain equivalents. Only the modules that hold a kernel import triton."""
