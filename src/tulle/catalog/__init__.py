"""The read side: everything that shows the mesh without changing it."""
