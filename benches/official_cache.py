"""Runs one operation of the official cache, and prints how many seconds it took."""

import sys
import time

from runpod.serverless import VolumeCache

what, directory, volume = sys.argv[1:]
cache = VolumeCache([directory], namespace="bench", volume_path=volume, best_effort=False)
began = time.perf_counter()
if what == "hydrate":
    cache.hydrate()
else:
    cache.sync(background=False)
took = time.perf_counter() - began
print(f"\n{took}")
