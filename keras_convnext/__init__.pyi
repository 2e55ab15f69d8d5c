"""The public names with their types. `__init__.py` imports each of them when it is first used."""

from keras_convnext import callbacks as callbacks
from keras_convnext import errors as errors
from keras_convnext import layers as layers
from keras_convnext import optimizers as optimizers
from keras_convnext import schedules as schedules
from keras_convnext.catalog import imagenet as imagenet
from keras_convnext.catalog.architectures import list_models as list_models
from keras_convnext.catalog.checkpoints import list_weights as list_weights
from keras_convnext.conversion import convert_weights as convert_weights
from keras_convnext.data.preprocessor import Preprocessor as Preprocessor
from keras_convnext.distribution.data_parallel import data_parallel as data_parallel
from keras_convnext.evaluation.classification import Evaluation as Evaluation
from keras_convnext.evaluation.grad_cam import grad_cam as grad_cam
from keras_convnext.models import ConvNeXt as ConvNeXt
from keras_convnext.models import ConvNeXtBase as ConvNeXtBase
from keras_convnext.models import ConvNeXtIsotropicBase as ConvNeXtIsotropicBase
from keras_convnext.models import ConvNeXtIsotropicLarge as ConvNeXtIsotropicLarge
from keras_convnext.models import ConvNeXtIsotropicSmall as ConvNeXtIsotropicSmall
from keras_convnext.models import ConvNeXtLarge as ConvNeXtLarge
from keras_convnext.models import ConvNeXtSmall as ConvNeXtSmall
from keras_convnext.models import ConvNeXtTiny as ConvNeXtTiny
from keras_convnext.models import ConvNeXtXLarge as ConvNeXtXLarge
from keras_convnext.models import create_model as create_model
from keras_convnext.models import decode_predictions as decode_predictions
from keras_convnext.models import feature_pyramid as feature_pyramid
from keras_convnext.models import model_from_weights as model_from_weights
from keras_convnext.models import preprocess_input as preprocess_input
from keras_convnext.recipe import Recipe as Recipe
from keras_convnext.recipe import load_recipe as load_recipe
from keras_convnext.runs.directory import RunDirectory as RunDirectory
from keras_convnext.serving.export import export as export
from keras_convnext.tasks.classification.predictor import Prediction as Prediction
from keras_convnext.tasks.classification.predictor import Predictor as Predictor
from keras_convnext.weights.load import load_weights as load_weights
from keras_convnext.weights.save import save_weights as save_weights
from keras_convnext.workflows import evaluate as evaluate
from keras_convnext.workflows import train as train

__version__: str
__all__: list[str]
