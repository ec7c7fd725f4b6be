"""Reads and writes pictures, sound and metadata; files and folders are written whole or not at all."""
