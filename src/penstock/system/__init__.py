"""The kernel's edge: descriptors, processes, polling. The only package that asks which platform this is."""
