"""Watch a directory of frames, remember, decide, reduce and show."""
