"""What the rehearsal makes of a registration of the Pulumi program: the real thing, in the emulated account."""
