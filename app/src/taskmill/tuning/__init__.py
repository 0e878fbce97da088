"""Which settings of the workers suit a load."""
