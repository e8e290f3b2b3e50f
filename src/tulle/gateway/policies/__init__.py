"""Policies: what the gateway does with the requests of a service beside letting its callers in, one module a kind."""
