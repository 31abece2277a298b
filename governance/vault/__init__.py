"""The one place where people's identifiers are: indexed blindly, sealed under their own keys."""
