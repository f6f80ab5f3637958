"""What a run looks like: functions from tensors and rows of numbers to matplotlib figures."""
