"""Image folders, labels, and seeded sampling."""

from xxdeploy.datasets.folders import has_labels, labels_from_folders, open_images
from xxdeploy.datasets.images import ImageSet, overlap
from xxdeploy.datasets.labels import Labels, imagenet_labels, load_labels

__all__ = [
    "ImageSet",
    "Labels",
    "has_labels",
    "imagenet_labels",
    "labels_from_folders",
    "load_labels",
    "open_images",
    "overlap",
]
