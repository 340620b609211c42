"""The web app: what browsers load, and where it is hosted."""
