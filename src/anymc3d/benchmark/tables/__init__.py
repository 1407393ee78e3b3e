"""The layouts of the paper's tables, made from the long table of results, beside what the paper prints."""
