"""Search for the policy that serves a stated objective, and certify it on other images."""
