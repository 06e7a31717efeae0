"""Static INT8: calibration and Q/DQ."""
