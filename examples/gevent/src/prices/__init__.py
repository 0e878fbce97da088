"""Prices of several suppliers, asked for at the same time."""
