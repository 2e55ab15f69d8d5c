"""Compares the speed of networks on this machine: ours, Keras's, timm's and Hugging Face's.

`candidates` names the networks to compare, `networks` builds one in the current process, `worker`
runs that process, `comparison` starts the workers and times them in turn, and `report` shows the
results.
"""
