"""Worker processes for Python stages."""
