"""Training on several devices and in several processes: one engine a backend."""
