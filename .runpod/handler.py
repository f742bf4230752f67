"""The Hub looks for a file of this name. The worker is no Python: it is the program `whisperq runpod`, which the image's CMD
starts and which speaks to RunPod's queue by itself. Run by hand in the image, this file starts the same program."""

import os

os.execvp("whisperq", ["whisperq", "runpod"])
