"""Edges and a server that learn together without handing over weights or images (FedGKT).

He, Annavaram, Avestimehr, Group Knowledge Transfer, NeurIPS 2020, arXiv 2007.14513.
"""
