"""What needs a GPU: checks first, then speed."""
