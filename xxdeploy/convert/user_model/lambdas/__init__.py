"""Lambda layers of known, harmless forms, recognized from their stored bytecode, which is never run.

Keras stores the function of a ``Lambda`` layer as a marshalled code object of the Python that wrote the file. To run it
is to run a stranger's program, and no other version of Python can load it. A reader of our own (``marshal_code``) takes
the few kinds of constants that an expression needs; ``bytecode`` reads the instructions of CPython 2.7 and 3.5 to 3.14;
``expression`` follows them on a stack of symbols; ``functions`` lists the calls whose meaning is known. They import
only the standard library and run in the quarantine. ``replace`` puts layers of Keras, or a ``TranslatedLambda``
(``layer``), in the place of the Lambda layers.

xdis reads the bytecode of all versions, too. It is not used: its license is the GPL, and it loads every object that the
bytes describe, while these functions come from strangers.
"""
