"""What a model's file holds, read without Keras."""

import io
import zipfile

import h5py


def tensors(model_file):
    """Returns every tensor by its place: weights, optimizer, averages, state of the draws."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with zipfile.ZipFile(model_file) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content) as file:
        file.visititems(keep)
    return found
