"""Samples prompts by the thousand, on several processes, and continues where it was stopped."""
