"""Image folders, labels, and seeded sampling."""

from xxdeploy.datasets.folders import has_labels, labels_from_folders, open_images
from xxdeploy.datasets.images import ImageSet, overlap
from xxdeploy.datasets.labels import Labels, imagenet_labels, load_labels
from xxdeploy.datasets.recipe import CalibrationRecipe, load_recipe, recipe_from

__all__ = [
    "CalibrationRecipe",
    "ImageSet",
    "Labels",
    "has_labels",
    "imagenet_labels",
    "labels_from_folders",
    "load_labels",
    "load_recipe",
    "open_images",
    "overlap",
    "recipe_from",
]
