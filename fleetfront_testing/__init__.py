"""Contract suites for every extension point, and the pytest plugin that offers them."""
