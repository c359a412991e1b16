"""Job kinds: one module each, and one row in the catalog."""
