"""The Python client of a mesh's HTTP API."""
