"""Published checkpoints and other people's weight files: find, fetch, read, write."""
