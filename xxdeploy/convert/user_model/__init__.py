"""Check, upgrade, load and prepare a user's Keras model file."""
