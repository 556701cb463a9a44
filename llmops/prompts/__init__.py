"""The prompt that renders training rows and serving requests alike."""
