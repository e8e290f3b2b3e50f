"""Thin commands over the sdk."""
