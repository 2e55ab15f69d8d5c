"""How fast networks are on this machine, side by side: ours, Keras's, timm's, Hugging Face's.

`contenders` says what is compared, `networks` makes one ready in this process, `worker` is the
process that holds it, `comparison` starts the workers and times them in turn, and `report` shows
the figures.
"""
