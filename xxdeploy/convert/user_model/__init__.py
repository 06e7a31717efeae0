"""A Keras model file of the user: checked, upgraded, loaded and prepared."""
