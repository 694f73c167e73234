"""Picture files as cameras and people leave them."""

import warnings
from contextlib import suppress
from typing import Any


def set_upright(picture: Any) -> None:
    """Turn a PIL image as its EXIF orientation says that it was held. EXIF that cannot be read says nothing; pixels
    that cannot be read raise as they always do."""
    from PIL import ImageOps

    picture.load()
    with warnings.catch_warnings(), suppress(Exception):  # made-up EXIF fails in as many ways as it has fields
        warnings.simplefilter("ignore")
        ImageOps.exif_transpose(picture, in_place=True)
