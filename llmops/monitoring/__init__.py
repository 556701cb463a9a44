"""What answering looks like now, against how it looked before. Pure."""
