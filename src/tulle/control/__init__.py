"""The write side: plan, apply, release, and their HTTP doors."""
