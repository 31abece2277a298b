"""Choices from other systems' exports: read, judged row by row, and recorded with their reason."""
