"""`rlvr export RUN --to DIR`: a trained model or adapter (`write`) with its model card (`card`)."""
