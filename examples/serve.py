"""Calls an exported classifier as a server does: with TensorFlow only, on image files.

keras-convnext train quickstart/digits
python examples/serve.py runs/digits/saved_model examples/digit.png
"""

import sys
from pathlib import Path

import tensorflow as tf

directory, *files = sys.argv[1:]
served = tf.saved_model.load(directory)
answer = served.signatures["serve_files"](
    files=tf.constant([Path(file).read_bytes() for file in files])
)
for file, labels, scores in zip(files, answer["labels"], answer["scores"], strict=True):
    print(file)
    for label, score in zip(labels.numpy(), scores.numpy(), strict=True):
        print(f"  {label.decode()}  {score:.1%}")
