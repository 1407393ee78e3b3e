"""Cases read before they are needed, in processes of their own: a scan that breaks its reader costs one case.

From top to bottom: ``cases.py`` is what commands use, ``queue.py`` the order and the bound in bytes, ``process.py`` one
process and its replacement, ``child.py`` what such a process does, ``wire.py`` what is said between them.
"""
