"""Pages that show what the daemon does, and change nothing."""
