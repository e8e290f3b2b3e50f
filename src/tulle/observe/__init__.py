"""Indicators, objectives, lineage: what happened, measured."""
