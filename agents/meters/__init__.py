"""Meters: sources of power, energy and memory readings. ``catalog`` lists them."""
