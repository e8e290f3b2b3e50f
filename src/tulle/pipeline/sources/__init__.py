"""Where input ports take rows from, one module a kind."""
