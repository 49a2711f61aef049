"""What frozen encoders made of cells, kept on disk by content: computed once, shared by runs."""

from absentia.data.features.cells import CellCache
from absentia.data.features.store import FeatureStore, features_folder

__all__ = ["CellCache", "FeatureStore", "features_folder"]
