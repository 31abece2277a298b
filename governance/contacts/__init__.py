"""Whether somebody reads what is sent to a contact that we know: codes, and how often they work."""
