"""Searching for good settings with Optuna."""
