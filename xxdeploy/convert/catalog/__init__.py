"""A network of the catalog as a Keras model."""
