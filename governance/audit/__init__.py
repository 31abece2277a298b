"""What operators did: a second Merkle log, which nobody can rewrite unnoticed."""
