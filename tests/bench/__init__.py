"""The relay's benchmark: ``python -m tests.bench``. See ``README.md`` in this folder for what is measured, and how."""
