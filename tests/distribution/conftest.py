import pytest

# Everything that could differ between one device and several.
RECIPE = """
name: tiny
model: {{depths: [2], dims: [8], kernel_size: 3, drop_path_rate: 0.3}}
data: {{source: digits, image_size: 8, crop_fraction: 1.0, batch_size: 480}}
augment: {{policy: paper, rand_augment: null, mixup_alpha: 0.8, cutmix_alpha: 1.0}}
optimizer:
  {{gradient_accumulation_steps: 2, global_clipnorm: 1.0, ema_decay: 0.9, layer_decay: 0.8}}
schedule: {{epochs: {epochs}, warmup_epochs: 1, learning_rate: 0.02}}
export: {{saved_model: false}}
"""


@pytest.fixture(scope="session")
def recipe_of(tmp_path_factory):
    """Writes the recipe of a tiny run of that many epochs, and returns its file."""

    def write(epochs):
        path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
        path.write_text(RECIPE.format(epochs=epochs))
        return path

    return write
