"""The engines that answer, and the pure pieces around them: prompts, quality gates, routing."""
