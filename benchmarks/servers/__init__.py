"""What `benchmarks/serving.py` is made of: servers in processes, load, and what is done to them."""
