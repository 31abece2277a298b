"""An append-only Merkle log that others can check without trusting us: RFC 6962, C2SP tiles."""
