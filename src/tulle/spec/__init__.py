"""What a product owner writes: the DataProduct document, its capabilities, and how they are loaded."""
