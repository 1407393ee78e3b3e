"""DICOM series -> Volume: own inventory, order and geometry on top of pydicom; see :mod:`anymc3d.data.dicom.read`."""
