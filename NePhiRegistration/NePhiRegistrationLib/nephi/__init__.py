"""NePhi: deformable registration of 2D and 3D medical images with neural deformation fields.

>>> from nephi import Options, read_image, run
>>> transform = run(read_image("fixed.nii.gz"), read_image("moving.nii.gz", "moving"),
...                 Options.from_preset("lung-ct"))                                     # doctest: +SKIP
>>> transform.forward.map(points)              # fixed to moving, LPS mm                 # doctest: +SKIP
"""

__version__ = "0.2.0"

from . import threads as threads  # first, before torch is imported
from .align.registration import Progress, register, run
from .errors import DeviceMemoryError, InputError, NePhiError
from .geometry import Grid
from .images.image import Image
from .images.reading import read_image, read_labels, read_mask
from .maps.transform import Transform
from .options import Options, preset_names

__all__ = ["DeviceMemoryError", "Grid", "Image", "InputError", "NePhiError", "Options", "Progress", "Transform",
           "preset_names", "read_image", "read_labels", "read_mask", "register", "run"]
