"""Ask a server from Python."""
