"""A model file from somewhere else, looked at in a process of its own before Keras sees it.

A ``.keras`` or ``.h5`` file is a program: its configuration names classes and functions that Keras imports and calls.
Keras' own ``safe_mode`` has been passed several times (CVE-2025-1550 by any module; CVE-2025-8747, -9906 by functions
of Keras; CVE-2025-9905 by the ``.h5`` format; CVE-2025-12058 by layers that read files; CVE-2024-3660 by Lambda), and
libhdf5 is C code that damaged files have crashed. So nothing of the file is given to Keras before a child process with
a memory limit, which imports neither Keras nor TensorFlow, has found every class that it names on a list.
"""

from xxdeploy.convert.user_model.quarantine.inspect import ModelFile, inspect_model_file

__all__ = ["ModelFile", "inspect_model_file"]
