"""Read a TensorFlow SavedModel folder as data: its graph, its functions and the table of its variables.

Nothing here imports TensorFlow. A SavedModel is a program: ``tf.saved_model.load`` runs its initializers and restores
its objects, and its graph may read files, run Python functions or load tables. So the signature that is asked for is
cut out as one plain graph of operations that only compute (``operations``), and TensorFlow gets that graph alone.
"""
