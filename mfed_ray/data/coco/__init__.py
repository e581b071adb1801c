"""COCO 2017 folders: reader, index on disk, checker."""
