"""The part of fleetfront that runs on devices: standard library only, Python 3.6 or newer."""
