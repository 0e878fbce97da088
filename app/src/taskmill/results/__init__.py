"""Results by id from the result backend, each compared with the right value."""
