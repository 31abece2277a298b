"""The officers' console: pages rendered on the server, which work without JavaScript."""
