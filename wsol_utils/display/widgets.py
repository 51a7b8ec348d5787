"""One kind of interactive view: controls above a picture that is drawn anew when one of them moves."""

from collections.abc import Callable

import cv2
import ipywidgets
import numpy as np


def explore(draw: Callable[..., np.ndarray], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """A view with one control per argument of `draw`, which returns an RGB image (H, W, 3) uint8.

    The picture is the last child of the view; moving a control draws it again.

    Example:
        >>> grey = lambda level: np.full((8, 8, 3), level, np.uint8)
        >>> view = explore(grey, level=ipywidgets.IntSlider(value=3, max=255))
        >>> before = view.children[-1].value
        >>> view.children[0].value = 200
        >>> before != view.children[-1].value
        True
    """
    picture = ipywidgets.Image(format="png")

    def redraw(_change: object = None) -> None:
        image = draw(**{name: control.value for name, control in controls.items()})
        picture.value = cv2.imencode(".png", image[..., ::-1])[1].tobytes()

    for name, control in controls.items():
        control.description = control.description or name.replace("_", " ")
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), picture])
