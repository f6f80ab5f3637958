"""What watches a run: monitors, guards, figures, TensorBoard extras. Each is chosen in conf/callbacks."""
