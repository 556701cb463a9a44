"""Pure planning: from a resolved config, a table of step kinds and facts to a plan."""
