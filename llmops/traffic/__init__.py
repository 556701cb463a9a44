"""What was asked and answered: the log, its queries, feedback, and sessions."""
