"""The built-in stages, as the engine starts them."""
