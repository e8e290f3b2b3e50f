"""Tulle: the whole data mesh in one package. Start with ARCHITECTURE.md; the command line is `tulle.cli`."""
