"""The `penstock` command. It uses only the public names of the package, as any user's program could."""
