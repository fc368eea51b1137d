"""What a client does to a mount, the same for every system, and what it does it with."""
