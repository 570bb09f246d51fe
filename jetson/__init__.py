"""The board: what it is and what state it was in when something was measured."""
