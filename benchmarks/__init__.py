"""Measurements, each beside its baseline in the same run: only the ratios mean something."""
