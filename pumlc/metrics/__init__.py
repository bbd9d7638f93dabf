"""How good predictions are: pure functions of scores [N, C] and labels [N, C] int8, on any device.

Labels are 1 positive, 0 unknown, -1 known negative; unknown entries are skipped unless a function says otherwise.
Nothing here loops over classes, images or thresholds.
"""
