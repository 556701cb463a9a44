"""Rows, from the query's result to the files of a dataset: cleaning, keys, groups, sides."""
