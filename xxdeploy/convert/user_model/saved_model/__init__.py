"""Build a Keras model from the plain graph of a SavedModel's signature (``quarantine.saved_model``)."""
