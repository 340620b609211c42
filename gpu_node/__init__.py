"""What runs on a GPU node: an agent that brings an engine up, watches it, and leaves when it is no longer wanted."""
