"""The public's pages: see and change one's choices, read notices, know whom to ask."""
