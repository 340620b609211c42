"""The unmodified Pulumi program, planned and applied by the real AWS provider, in an emulated account."""
