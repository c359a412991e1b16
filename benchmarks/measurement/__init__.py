"""What the measurements of fleetfront are worth, each claim against something independent."""
