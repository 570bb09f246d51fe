"""What happened while serving: a log of decisions, audits, replays of the log, drift."""
