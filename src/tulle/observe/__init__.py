"""Watching products: incidents and where they are told."""
