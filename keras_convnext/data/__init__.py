"""From images on disk or in memory to the batches `model.fit` takes."""
