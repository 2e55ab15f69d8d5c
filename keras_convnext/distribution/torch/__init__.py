"""Training on several devices with PyTorch."""
