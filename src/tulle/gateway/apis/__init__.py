"""Managed APIs: what products declare in `apis/`, and what is recorded of each version and instance."""
