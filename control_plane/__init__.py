"""The control plane: holds clients' streams, wakes and watches GPU nodes, and takes everything down again."""
