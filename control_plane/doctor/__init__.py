"""``diogenes doctor``: looks at all that a deployment needs and is made of. It changes and starts nothing."""
