"""The page of a run: read the run folder and the store, draw, write one HTML file."""
