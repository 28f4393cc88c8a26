"""Seeing files: listing, mounts, observers, completeness. Used by daemon.watcher."""
