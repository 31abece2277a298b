"""What people chose, and the proof of it. People are random references here, never identifiers."""
