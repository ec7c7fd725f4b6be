"""Objects by name: registries, plugins of installed packages, `module:Class`, settings as text, and configs."""
