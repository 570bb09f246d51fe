"""Engines that run a network, preprocessing, and the HTTP endpoint."""
