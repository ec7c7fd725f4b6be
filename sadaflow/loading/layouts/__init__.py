"""Known layouts of weight files as rows of data, read by loading, by `inspect` and by docs/loading.md."""
