"""Managed APIs: contracts and policies as values, rendered to the real Envoy."""
