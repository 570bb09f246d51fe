"""A declared experiment: its plan, its steps, the workers that run them, and where they lie."""
