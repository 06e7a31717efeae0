"""Inspection of an untrusted model file in a separate process, before Keras reads it.

A ``.keras`` or ``.h5`` file is a program: its configuration names classes and functions that Keras imports and calls.
Keras' own ``safe_mode`` has been bypassed several times (CVE-2025-1550 by any module; CVE-2025-8747, -9906 by functions
of Keras; CVE-2025-9905 by the ``.h5`` format; CVE-2025-12058 by layers that read files; CVE-2024-3660 by Lambda), and
damaged files have crashed libhdf5, which is C code. So Keras gets nothing of the file before a child process with a
memory limit, which imports neither Keras nor TensorFlow, has found every class that the file names in ``known``.
"""

from xxdeploy.convert.user_model.quarantine.inspect import InspectedModel, inspect_model_file

__all__ = ["InspectedModel", "inspect_model_file"]
