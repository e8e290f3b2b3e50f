"""Runs SQL on the files behind a ref. Knows nothing of products or runs."""
