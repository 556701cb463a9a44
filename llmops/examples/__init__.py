"""Step kinds of the example experiments, brought by entry points as a project brings its own."""
