"""One of everything that a third party may add to fleetfront."""
