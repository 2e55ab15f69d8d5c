"""Five operations with the fastest implementation known for each backend; see README.md."""
