"""Checks as values, compiled to SQL, with a verdict that shows the failing rows. Knows no run and no branch."""
