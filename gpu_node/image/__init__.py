"""The machine image that holds the engine already, and what bakes it."""
