"""The board: what it is, what state it is in, and what it draws when something is measured."""
