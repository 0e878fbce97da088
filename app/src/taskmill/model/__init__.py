"""What a run is made of: its plan, its record, its moments, what it has to reach. Imports nothing above it."""
