"""The composition root: settings in, wired objects and the ASGI application out."""
