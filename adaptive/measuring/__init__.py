"""What candidates cost: profiles, times, energy."""
