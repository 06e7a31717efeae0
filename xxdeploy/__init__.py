"""xxdeploy takes a Keras image model to small machines, and proves that it is still the same model."""

__version__ = "0.1.0"
