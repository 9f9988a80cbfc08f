"""What the frameworks are told."""
