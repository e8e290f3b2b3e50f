"""Hooks: what a repository has checked before, and told after, its branches and tags change."""
