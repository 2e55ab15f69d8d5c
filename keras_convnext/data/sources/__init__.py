"""Sources of labelled images: folders, TensorFlow Datasets, and scikit-learn's digits."""
