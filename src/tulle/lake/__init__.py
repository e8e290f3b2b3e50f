"""A versioned store: Git for objects. Knows nothing of products."""
