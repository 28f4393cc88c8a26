"""The plan in chapters: groups, matching, fingerprints, choices. Pure, with daemon.rules."""
