"""Messages to the broker, every one confirmed: of a plan by several processes, of any signatures by one call."""
