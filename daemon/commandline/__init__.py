"""How each command is written: its arguments, options and help. What it does stands in daemon.commands."""
