"""Who may do what here: accounts, their sessions, API keys, and the guard before every endpoint."""
