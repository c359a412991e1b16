"""Meters: what a device can tell of itself beside time. ``catalog`` names them all."""
