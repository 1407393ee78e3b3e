"""Files and folders of this program: atomic writes, claimed and locked folders, the local store's place, tables."""
