"""What a policy would have done on a table, beside what else could be done."""
