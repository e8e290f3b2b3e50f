"""Runs SQL over Parquet files. Knows files and columns; not repositories, branches or products."""
