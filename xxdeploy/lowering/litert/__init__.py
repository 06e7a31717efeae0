"""Write a float or S8S8 graph as a LiteRT (TensorFlow Lite) file with the same integers."""
