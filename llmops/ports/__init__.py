"""What the engine may ask of the outside world. Adapters in ``adapters/`` satisfy these by shape.

One Protocol a seam. Rows travel as Arrow batches, texts as plain strings; no adapter's own type
crosses a port.
"""
