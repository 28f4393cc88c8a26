"""What the commands of the kspecdr command line do. Called by daemon.cli."""
