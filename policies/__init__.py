"""What is allowed: purposes, rules and pure decisions. No I/O, no framework, no database."""
