"""What a tracking call means, as pure functions."""
