"""From a picture to the input of a network."""
