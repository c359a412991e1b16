"""Contract suites and helpers for tests of fleetfront's extensions; needs pytest."""
