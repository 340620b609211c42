"""An AWS account on a desk: the same code as in the cloud, with nothing of the cloud. See README.md."""
