"""What the control plane needs of AWS, as Pulumi components."""
