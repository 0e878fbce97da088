"""The broker, its queues and the workers: asked, never changed, but for dead letters."""
