"""TensorBoard, Weights & Biases and MLflow."""
