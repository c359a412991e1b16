"""Validation of fleetfront's measurements against independent references."""
