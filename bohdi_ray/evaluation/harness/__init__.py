"""lm-eval (extra `eval`): its tasks, and a model as it sees one."""
