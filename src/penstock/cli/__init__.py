"""The `penstock` command. It uses the public names of the package only, as any program of a user could."""
