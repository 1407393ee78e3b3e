"""Parts of self-contained HTML pages: style, document, tables, plots. No file is read, no network, no torch."""
