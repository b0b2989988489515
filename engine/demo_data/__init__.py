"""Builds what the demo model is trained on: cleaned prose, and conversations written by templates."""
