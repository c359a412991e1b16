"""The agent's side of the coordinator: HTTP, enrolment, heartbeats, files, results, updates."""
