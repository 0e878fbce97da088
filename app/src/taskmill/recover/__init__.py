"""Going on with a run that was interrupted, or that misses results."""
