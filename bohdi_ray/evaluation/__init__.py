"""What a target has gained: measures of weights versions."""
