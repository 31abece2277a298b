"""Keys: where they come from, how values are sealed under them, how sealed values are found."""
