"""A plugin with its backbone as one network for other programs: ONNX, and MONAI's bundle."""
