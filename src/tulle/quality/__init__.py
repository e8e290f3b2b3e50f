"""Checks as values, and their verdicts with failing rows."""
