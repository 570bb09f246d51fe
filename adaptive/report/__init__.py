"""An evaluation as one self-contained page for people: charts, tables, images and words."""
