"""ConvNeXt networks as functional Keras models."""

from keras_convnext.models.applications import decode_predictions as decode_predictions
from keras_convnext.models.applications import preprocess_input as preprocess_input
from keras_convnext.models.constructors import ConvNeXtBase as ConvNeXtBase
from keras_convnext.models.constructors import ConvNeXtIsotropicBase as ConvNeXtIsotropicBase
from keras_convnext.models.constructors import ConvNeXtIsotropicLarge as ConvNeXtIsotropicLarge
from keras_convnext.models.constructors import ConvNeXtIsotropicSmall as ConvNeXtIsotropicSmall
from keras_convnext.models.constructors import ConvNeXtLarge as ConvNeXtLarge
from keras_convnext.models.constructors import ConvNeXtSmall as ConvNeXtSmall
from keras_convnext.models.constructors import ConvNeXtTiny as ConvNeXtTiny
from keras_convnext.models.constructors import ConvNeXtXLarge as ConvNeXtXLarge
from keras_convnext.models.convnext import ConvNeXt as ConvNeXt
from keras_convnext.models.feature_pyramid import feature_pyramid as feature_pyramid
from keras_convnext.models.from_weights import model_from_weights as model_from_weights
from keras_convnext.models.outputs import is_multi_label as is_multi_label
from keras_convnext.models.outputs import with_probabilities as with_probabilities
from keras_convnext.models.registry import create_model as create_model
