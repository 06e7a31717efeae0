"""Image folders, labels, and seeded sampling."""

from xxdeploy.datasets.class_order import class_orders
from xxdeploy.datasets.crops import crops_of
from xxdeploy.datasets.folders import has_labels, infer_labels, open_images, open_samples
from xxdeploy.datasets.images import ImageSet, overlap
from xxdeploy.datasets.labels import Labels
from xxdeploy.datasets.labels_file import imagenet_labels, load_labels
from xxdeploy.datasets.recipe import CalibrationRecipe, load_recipe, recipe_from

__all__ = [
    "CalibrationRecipe",
    "ImageSet",
    "Labels",
    "class_orders",
    "crops_of",
    "has_labels",
    "imagenet_labels",
    "infer_labels",
    "load_labels",
    "load_recipe",
    "open_images",
    "open_samples",
    "overlap",
    "recipe_from",
]
