"""Detectors as torch modules: DETR, Sparse R-CNN, and what trains them."""
