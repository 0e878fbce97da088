"""What a fault did to a run."""
