"""Joins the group of the environment with JAX; prints the number of its processes, or the error."""

import sys

import jax

from keras_convnext.distribution.jax import process_group
from keras_convnext.errors import UserError

if __name__ == "__main__":
    group = process_group.group_of_environment()
    assert group is not None
    try:
        process_group.join(group)
    except UserError as error:
        print(error)
        sys.exit(2)
    print(jax.process_count())
    jax.distributed.shutdown()
