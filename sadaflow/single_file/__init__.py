"""Checkpoints of one file in the layouts of their authors; configs are told by the tensors' shapes, never fetched."""

from .assemble import Aid, assemble
from .sources import locate_file, locate_folder, locate_parts

__all__ = ["Aid", "assemble", "locate_file", "locate_folder", "locate_parts"]
