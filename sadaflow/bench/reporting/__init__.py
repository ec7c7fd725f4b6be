"""The report of a bench: tables, figures and the HTML page."""
