"""What a run leaves behind: its folder, its record, and the lock of the last accepted run."""
